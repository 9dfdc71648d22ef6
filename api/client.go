// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultTimeout bounds a call whose context has no deadline. It is generous because a Coordinator that is given a
// manifest may have to generate large RSA keys.
const DefaultTimeout = 5 * time.Minute

// Limits on connections and replies.
const (
	connectTimeout   = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	// replyLimit is in bytes. A Coordinator accepts manifests of several MiB, which travel in base64.
	replyLimit = 64 << 20
	// logLimit is the same for the update log, of which a Coordinator keeps 64 MiB by default, configurable.
	logLimit = 512 << 20
	// headerLimit is in bytes.
	headerLimit = 64 << 10
)

// Options configures a Client.
type Options struct {
	// Root is the Coordinator's root certificate. The server must own exactly this certificate.
	Root *x509.Certificate
	// InsecureAnyServer takes any server if Root is nil. Nothing that such a client sends is secret and nothing that it
	// receives is true.
	InsecureAnyServer bool
	// ClientCertificate authenticates a user or a Marble. Its key may be opaque, e.g. in an HSM. Nil: none.
	ClientCertificate *tls.Certificate
	// Timeout bounds a call whose context has no deadline. 0: DefaultTimeout. Negative: none.
	Timeout time.Duration
	// Dial opens connections. Nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client calls one Coordinator.
type Client struct {
	endpoint string
	root     *x509.Certificate
	http     *http.Client
	timeout  time.Duration
}

// NewClient returns a client of the Coordinator at endpoint, which is "host:port". It does not connect yet.
func NewClient(endpoint string, o Options) (*Client, error) {
	if err := checkEndpoint(endpoint); err != nil {
		return nil, err
	}
	if o.Root == nil && !o.InsecureAnyServer {
		return nil, errors.New("no root certificate to pin the connection to")
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	return &Client{
		endpoint: endpoint,
		root:     o.Root,
		http:     &http.Client{Transport: newTransport(o), CheckRedirect: refuseRedirect},
		timeout:  timeout,
	}, nil
}

// Endpoint returns the Coordinator's "host:port".
func (c *Client) Endpoint() string { return c.endpoint }

// Root returns the pinned root certificate; nil with Options.InsecureAnyServer.
func (c *Client) Root() *x509.Certificate { return c.root }

// Close frees idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func checkEndpoint(endpoint string) error {
	u, err := url.Parse("https://" + endpoint)
	if err == nil && u.Host == endpoint && u.Hostname() != "" && u.User == nil {
		return nil
	}
	return WithHint(fmt.Errorf("%q is not an endpoint", endpoint),
		"The endpoint is host:port, without scheme and path, e.g. localhost:4433.")
}

func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func newTransport(o Options) *http.Transport {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        tlsConfig(o),
		TLSHandshakeTimeout:    handshakeTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerLimit,
		ForceAttemptHTTP2:      true,
	}
}

// tlsConfig replaces the standard verification by byte equality of the leaf. The handshake itself proves that the
// server owns the leaf's key.
func tlsConfig(o Options) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if o.Root != nil {
		want := bytes.Clone(o.Root.Raw)
		config.VerifyConnection = func(state tls.ConnectionState) error { return checkPin(&state, want) }
	}
	if o.ClientCertificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return o.ClientCertificate, nil
		}
	}
	return config
}

func checkPin(state *tls.ConnectionState, root []byte) error {
	if state != nil && len(state.PeerCertificates) > 0 && bytes.Equal(state.PeerCertificates[0].Raw, root) {
		return nil
	}
	return WithHint(ErrRootMismatch,
		"Either this is not the Coordinator that was verified, or it is in recovery mode (then it shows a temporary "+
			"certificate), or its state was discarded. Verify it anew (marblerun manifest verify).")
}

// apiURL returns the address of a version 2 path such as "/api/v2/status" or of a version 1 path such as "/status".
func (c *Client) apiURL(path string, query url.Values) string {
	address := "https://" + c.endpoint + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return strings.TrimSpace(address)
}
