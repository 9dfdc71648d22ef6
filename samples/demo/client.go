// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxReply is how much of a reply is read, in bytes.
const maxReply = 64 << 10

// reply is an HTTP reply and the certificates it came under, leaf first.
type reply struct {
	status int
	body   string
	chain  []*x509.Certificate
}

func get(ctx context.Context, url string, config *tls.Config) (reply, error) {
	return request(ctx, http.MethodGet, url, "", config)
}

// request uses a connection of its own, without proxy, so that each one is verified anew.
func request(ctx context.Context, method, url, body string, config *tls.Config) (r reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return r, err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	response, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	return reply{response.StatusCode, string(data), response.TLS.PeerCertificates}, err
}

// askWeb asks the web Marble like any client that trusts nothing but the Coordinator's root.
func (d *demo) askWeb(ctx context.Context, method, path, body string) (reply, error) {
	r, err := request(ctx, method, "https://"+d.webAddr+path, body, &tls.Config{RootCAs: d.anchor})
	if err == nil && r.status/100 != 2 {
		err = fmt.Errorf("%s %s: status %d: %s", method, path, r.status, strings.TrimSpace(r.body))
	}
	return r, err
}

// readAnchor reads the chain that the CLI wrote, intermediate first, and trusts its root.
func (d *demo) readAnchor(name string) error {
	data, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		return err
	}
	var last *x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if last, err = x509.ParseCertificate(block.Bytes); err != nil {
			return err
		}
	}
	if last == nil {
		return errors.New("no certificate in " + name)
	}
	if !last.Equal(d.firstRoot) {
		return errors.New("the root in " + name + " is not the one that the Coordinator serves")
	}
	d.anchor = x509.NewCertPool()
	d.anchor.AddCert(last)
	return nil
}
