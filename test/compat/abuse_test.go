// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/test/harness"
)

// endless yields n bytes.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range p[:n] {
		p[i] = ' '
	}
	e.left -= n
	return n, nil
}

// peakMemory returns the process's highest resident memory so far, in MiB.
func peakMemory(t *testing.T, c *harness.Coordinator) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// Bad input from strangers: a clear error, bounded memory, and the Coordinator stays up.
func TestAbuse(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	for _, step := range []struct {
		name string
		run  func(*testing.T, *harness.Coordinator)
	}{
		{"malformed manifests", malformedManifests},
		{"a manifest with 50 mistakes", fiftyMistakes},
		{"templates that would run for ever", endlessTemplates},
		{"100 MiB bodies", hugeBodies},
		{"slow and silent clients", silentClients},
		{"and it still works", stillWorks},
		{"bad gRPC", badGRPC},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, c) })
	}
	for l := range strings.Lines(c.Log()) {
		if len(l) >= 64<<10 {
			t.Errorf("a log line has %d bytes", len(l))
		}
		if !json.Valid([]byte(l)) {
			t.Errorf("a log line is not JSON: %.200s", l)
		}
	}
	equal(t, "state at the end", status(t, c), 3)
}

func malformedManifests(t *testing.T, c *harness.Coordinator) {
	for _, body := range []string{"", "{", "null", "[]", "\xff", `{"Packages":1}`, strings.Repeat("[", 1<<16)} {
		r := c.Post("/manifest", []byte(body))
		if r.Code != http.StatusBadRequest || r.Message == "" {
			t.Errorf("%.20q: %d %s", body, r.Code, r.Body)
		}
	}
	equal(t, "v2 envelope", c.Post("/api/v2/manifest", []byte("{")).Code, http.StatusBadRequest)
}

func fiftyMistakes(t *testing.T, c *harness.Coordinator) {
	marbles := object{}
	for i := range 50 {
		marbles[fmt.Sprintf("m%02d", i)] = object{"Package": fmt.Sprintf("missing%02d", i)}
	}
	r := c.Post("/manifest", manifestJSON(t, object{"Marbles": marbles}))
	equal(t, "code", r.Code, http.StatusBadRequest)
	for i := range 50 {
		if !strings.Contains(r.Message, fmt.Sprintf("missing%02d", i)) {
			t.Errorf("mistake %d is not named", i)
		}
	}
}

func endlessTemplates(t *testing.T, c *harness.Coordinator) {
	for _, text := range []string{"{{range 100000000}}x{{end}}", `{{printf "%1000000000d" 1}}`, `{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`} {
		r := c.Post("/manifest", manifestJSON(t, object{"Marbles": object{
			"m": marble(object{"Parameters": object{"Env": object{"X": text}}}),
		}}))
		if r.Code != http.StatusBadRequest || !strings.Contains(r.Message, "Env") {
			t.Errorf("%s: %d %s", text, r.Code, r.Body)
		}
	}
}

func hugeBodies(t *testing.T, c *harness.Coordinator) {
	for _, path := range []string{"/manifest", "/api/v2/manifest", "/api/v2/recover", "/update"} {
		req, err := http.NewRequest(http.MethodPost, "https://"+c.ClientAddr+path, &endless{100 << 20})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Client().Do(req)
		if err != nil {
			continue // refused while sending
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if peak := peakMemory(t, c); peak > 256 {
		t.Errorf("memory peaked at %d MiB", peak)
	}
}

func silentClients(t *testing.T, c *harness.Coordinator) {
	for _, addr := range []string{c.ClientAddr, c.MeshAddr} {
		for range 500 {
			conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := conn.Write([]byte{22, 3, 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func stillWorks(t *testing.T, c *harness.Coordinator) {
	c.WaitReady()
	c.MustSetManifest(manifestJSON(t, nil))
	deadline := time.Now().Add(30 * time.Second)
	for {
		// The cap on handshakes in flight may be taken by the silent clients until their deadline.
		_, err := activate(t, c, "m", uuid1)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func badGRPC(t *testing.T, c *harness.Coordinator) {
	id := harness.NewIdentity(t)
	conn, err := tls.Dial("tcp", c.MeshAddr, &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{id.TLS}, NextProtos: []string{"h2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// A truncated HTTP/2 preface and garbage after it.
	_, _ = conn.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), bytes.Repeat([]byte{0xff}, 64)...))
	_, _ = io.ReadAll(conn)
	conn.Close()
	_, err = c.ActivateWith(context.Background(), id, &marblepb.ActivationReq{
		Quote: make([]byte, 128<<10), CSR: id.CSR, MarbleType: "m", UUID: uuid1,
	})
	if err == nil {
		t.Error("evidence of 128 KiB was taken")
	}
	_, err = c.ActivateWith(context.Background(), id, &marblepb.ActivationReq{
		CSR: id.CSR, MarbleType: strings.Repeat("x", 1<<20), UUID: uuid1,
	})
	wantCode(t, err, codes.PermissionDenied, "unknown marble type")
}
