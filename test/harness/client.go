// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/wire"
)

// Client returns an HTTP client that trusts anybody, and presents the given certificates.
func (c *Coordinator) Client(certs ...tls.Certificate) *http.Client {
	return &http.Client{
		Timeout: 60 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: certs},
			ForceAttemptHTTP2: true,
		},
	}
}

// Reply is an answer of the client API.
type Reply struct {
	Code   int
	Header http.Header
	Body   string
	wire.Response
}

// Do sends a request to the client API.
func (c *Coordinator) Do(client *http.Client, method, path string, body []byte) (Reply, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "https://"+c.ClientAddr+path, bytes.NewReader(body))
	if err != nil {
		return Reply{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	r := Reply{Code: resp.StatusCode, Header: resp.Header, Body: string(data)}
	if err == nil {
		_ = json.Unmarshal(data, &r.Response) // an odd body shows in Body
	}
	return r, err
}

// Get sends GET and fails the test if there is no answer.
func (c *Coordinator) Get(path string) Reply {
	c.t.Helper()
	return c.must(c.Do(c.oneShot(), http.MethodGet, path, nil))
}

// Post sends POST and fails the test if there is no answer.
func (c *Coordinator) Post(path string, body []byte, certs ...tls.Certificate) Reply {
	c.t.Helper()
	return c.must(c.Do(c.oneShot(certs...), http.MethodPost, path, body))
}

func (c *Coordinator) oneShot(certs ...tls.Certificate) *http.Client {
	client := c.Client(certs...)
	client.Transport.(*http.Transport).DisableKeepAlives = true
	return client
}

func (c *Coordinator) must(r Reply, err error) Reply {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.Log())
	}
	return r
}

// Status returns the state code.
func (c *Coordinator) Status() (int, error) {
	r, err := c.Do(c.oneShot(), http.MethodGet, "/api/v2/status", nil)
	if err != nil {
		return 0, err
	}
	var s wire.StatusV2
	return s.Code, json.Unmarshal(r.Data, &s)
}

// SetManifest sets a manifest through version 2 of the API.
func (c *Coordinator) SetManifest(manifest []byte) Reply {
	c.t.Helper()
	return c.Post("/api/v2/manifest", V2(c.t, manifest))
}

// MustSetManifest sets a manifest and returns the recovery secrets.
func (c *Coordinator) MustSetManifest(manifest []byte) map[string][]byte {
	c.t.Helper()
	r := c.SetManifest(manifest)
	if r.Code != http.StatusOK {
		c.t.Fatalf("setting manifest: %d %s", r.Code, r.Body)
	}
	var reply wire.ManifestSetReply
	if err := json.Unmarshal(r.Data, &reply); err != nil {
		c.t.Fatal(err)
	}
	return reply.RecoverySecrets
}

// V2 wraps a manifest for version 2 of the API.
func V2(t testing.TB, manifest []byte) []byte {
	t.Helper()
	body, err := json.Marshal(wire.ManifestRequest{Manifest: manifest})
	if err != nil {
		t.Fatal(err)
	}
	return body
}
