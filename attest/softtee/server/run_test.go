// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/issuersock"
	"github.com/marblerun/marblerun/attest/softtee/server"
)

// run starts the service and returns the collateral's base URL; it must end without error when the test ends.
func run(t *testing.T, c server.Config) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan string, 1), make(chan error, 1)
	c.Ready = func(addr string) { ready <- addr }
	go func() { ended <- server.Run(ctx, c) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case addr := <-ready:
		return "http://" + addr
	case err := <-ended:
		ended <- nil
		t.Fatalf("Run: %v", err)
	}
	return ""
}

// socketPath is short: Unix sockets allow about 100 bytes.
func socketPath(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "softtee")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, name)
}

// TestRun: a process that knows a socket gets evidence about what the socket stands for, and the collateral fits.
func TestRun(t *testing.T) {
	p := newPlatform(t)
	sgx, tdx := socketPath(t, "sgx"), socketPath(t, "tdx")
	base := run(t, server.Config{Platform: p, Listen: "127.0.0.1:0", Sockets: []server.Socket{
		{Path: sgx, Machine: softtee.Machine{Name: "one"}, Workload: softtee.Workload{SGX: attest.SGXClaims{ISVPRODID: 7}}},
		{Path: tdx, Kind: softtee.TDXv5, Machine: softtee.Machine{Name: "two"}},
	}})
	ok(t, base+"/tdx/certification/v4/qe/identity")
	data := [64]byte{1, 2, 3}
	for path, want := range map[string]struct {
		kind string
		tee  attest.TEE
	}{sgx: {"sgx-v3", attest.SGX}, tdx: {"tdx-v5", attest.TDX}} {
		e, err := issuersock.Issue(t.Context(), path, "", data)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := attest.Parse(e.Data)
		if err != nil || e.Kind != want.kind || parsed.TEE != want.tee {
			t.Errorf("%s: %s %s %v", path, e.Kind, parsed.TEE, err)
		}
		q, err := dcap.ParseQuote(parsed.Quote)
		if err != nil || path == sgx && q.SGX.ISVProdID != 7 {
			t.Errorf("%s: %+v %v", path, q, err)
		}
	}
	if e, err := issuersock.Issue(t.Context(), sgx, "snp-v3", data); err != nil || e.Kind != "snp-v3" {
		t.Errorf("asked kind: %s %v", e.Kind, err)
	}
	if _, err := issuersock.Issue(t.Context(), sgx, "riscv", data); err == nil || !strings.Contains(err.Error(), "riscv") {
		t.Errorf("unknown kind: %v", err)
	}
	if info, err := os.Stat(sgx); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode: %v %v", info.Mode(), err)
	}
}

func oneSocket(t *testing.T, path string) server.Config {
	t.Helper()
	return server.Config{Platform: newPlatform(t),
		Sockets: []server.Socket{{Path: path, Machine: softtee.Machine{Name: "m"}}}}
}

func TestRunConcurrently(t *testing.T) {
	path := socketPath(t, "s")
	run(t, oneSocket(t, path))
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			e, err := issuersock.Issue(t.Context(), path, "", [64]byte{byte(i)})
			if err != nil {
				t.Error(err)
				return
			}
			if q, err := attest.Parse(e.Data); err != nil || q.Quote[48+320] != byte(i) {
				t.Errorf("client %d: other report data, %v", i, err)
			}
		})
	}
	clients.Wait()
}

// TestSockets: a stale socket is replaced, one in use is not, and rubbish gets nothing.
func TestSockets(t *testing.T) {
	path := socketPath(t, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	config := oneSocket(t, path)
	if err := server.Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("socket in use: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, config)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("an oversized request was answered with %d bytes", n)
	}
	if _, err := issuersock.Issue(t.Context(), path, "", [64]byte{}); err != nil {
		t.Errorf("after rubbish: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := issuersock.Issue(canceled, path, "", [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestRunCannotListen(t *testing.T) {
	if err := server.Run(t.Context(), server.Config{Platform: newPlatform(t), Listen: "256.0.0.1:1"}); err == nil {
		t.Error("Run listens at an impossible address")
	}
}
