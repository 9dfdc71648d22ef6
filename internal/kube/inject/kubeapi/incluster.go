// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ServiceAccount is where Kubernetes puts a Pod's token, namespace and the CA of the API server.
const ServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster returns a client of the API server of the cluster that this process runs in, and the namespace. folder is
// ServiceAccount.
func InCluster(getenv func(string) string, folder string) (c *Client, namespace string, err error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, "", errors.New("KUBERNETES_SERVICE_HOST and _PORT are not set: this is no Pod")
	}
	text, err := os.ReadFile(filepath.Join(folder, "namespace"))
	if err != nil {
		return nil, "", fmt.Errorf("reading the service account: %w (automountServiceAccountToken must not be off)", err)
	}
	transport := &reloading{file: filepath.Join(folder, "ca.crt")}
	token := func() (string, error) {
		text, err := os.ReadFile(filepath.Join(folder, "token"))
		return strings.TrimSpace(string(text)), err
	}
	return New("https://"+net.JoinHostPort(host, port), transport, token), strings.TrimSpace(string(text)), nil
}

// reloading is a transport that trusts the CA in a file, also after the file has changed.
type reloading struct {
	file string

	mu    sync.Mutex
	ca    []byte
	inner *http.Transport
}

func (t *reloading) RoundTrip(r *http.Request) (*http.Response, error) {
	inner, err := t.current()
	if err != nil {
		return nil, err
	}
	return inner.RoundTrip(r)
}

func (t *reloading) current() (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ca, err := os.ReadFile(t.file)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's CA: %w", err)
	}
	if t.inner != nil && bytes.Equal(ca, t.ca) {
		return t.inner, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("reading the API server's CA: %s has no certificate", t.file)
	}
	if t.inner != nil {
		t.inner.CloseIdleConnections()
	}
	t.ca = ca
	t.inner = &http.Transport{ // no proxy: the API server is in the cluster
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   timeout,
		ResponseHeaderTimeout: timeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConns:          2,
		ForceAttemptHTTP2:     true,
	}
	return t.inner, nil
}
