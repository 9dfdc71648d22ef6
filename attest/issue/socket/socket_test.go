// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package socket_test

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/issue/socket"
	"github.com/marblerun/marblerun/attest/softtee/issuersock"
)

// serve answers on a socket as a software TEE does; evidence is the report data.
func serve(t *testing.T, kind string, failed error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			asked, data, err := issuersock.ReadRequest(conn)
			if err == nil && asked != "" && asked != kind {
				failed = errors.New("unexpected kind " + asked)
			}
			if err := issuersock.WriteReply(conn, issuersock.Evidence{Kind: kind, Data: data[:]}, failed); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
	}()
	return path
}

func TestSocket(t *testing.T) {
	for kind, tee := range map[string]attest.TEE{"sgx-v3": attest.SGX, "tdx-v5-1.0": attest.TDX, "snp-v2": attest.SNP} {
		issuer, err := socket.Open(t.Context(), serve(t, kind, nil), "")
		if err != nil {
			t.Fatal(err)
		}
		if issuer.TEE() != tee || !strings.Contains(issuer.Name(), "SIMULATED") {
			t.Errorf("%s is %s, %s", kind, issuer.Name(), issuer.TEE())
		}
		data := [64]byte{1, 2, 3}
		if evidence, err := issuer.Issue(t.Context(), data); err != nil || string(evidence) != string(data[:]) {
			t.Errorf("%x, %v", evidence, err)
		}
	}
}

func TestSocketFails(t *testing.T) {
	for want, path := range map[string]string{
		"no such machine": serve(t, "sgx-v3", errors.New("no such machine")),
		"unknown kind":    serve(t, "abacus-v1", nil),
		"no such file":    filepath.Join(t.TempDir(), "missing"),
	} {
		if _, err := socket.Open(t.Context(), path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
