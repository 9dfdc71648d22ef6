// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/seal"
)

var (
	secret = bytes.Repeat([]byte{0x5e}, 32)
	aad    = []byte("journal, epoch and kind")
)

func sealed(t testing.TB, s seal.Sealer) []byte {
	t.Helper()
	out, err := s.Seal(t.Context(), secret, aad)
	must(t, err)
	if bytes.Contains(out, secret) {
		t.Fatal("sealed bytes show the secret")
	}
	return out
}

// wantOpen checks that a sealer opens bytes, or that it refuses them as ErrWrongKey with some text.
func wantOpen(t *testing.T, s seal.Sealer, data []byte, refusal string) {
	t.Helper()
	got, err := s.Unseal(t.Context(), data, aad)
	switch {
	case refusal == "" && (err != nil || !bytes.Equal(got, secret)):
		t.Errorf("%s: got %x, %v", s.Name(), got, err)
	case refusal != "" && (!errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), refusal)):
		t.Errorf("%s: got %x, %v, want %q", s.Name(), got, err, refusal)
	case refusal != "" && got != nil:
		t.Errorf("%s: a secret in spite of %v", s.Name(), err)
	}
}

func TestGramine(t *testing.T) {
	first := enclave{"cpu 1", "microcode 1", "code 1", "signer", 7, 2}
	s := first.start(t)
	product, unique := sealed(t, s.Product), sealed(t, s.Unique)
	const no = "Gramine's key is another one"
	for _, test := range []struct {
		name            string
		change          func(*enclave)
		product, unique string // refusals
	}{
		{"the same again", func(*enclave) {}, "", ""},
		{"changed enclave", func(e *enclave) { e.mrEnclave = "code 2" }, "", no},
		{"another machine", func(e *enclave) { e.cpu = "cpu 2" }, no, no},
		{"another signer", func(e *enclave) { e.mrSigner = "somebody" }, no, ""},
		{"another product", func(e *enclave) { e.productID = 8 }, no, no},
		{"lower SVN", func(e *enclave) { e.svn = 1 }, no, no},
		{"higher SVN", func(e *enclave) { e.svn = 3 }, no, no}, // Gramine offers no older keys
		{"microcode update", func(e *enclave) { e.cpuSVN = "microcode 2" }, no, no},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := first
			test.change(&other)
			s := other.start(t)
			wantOpen(t, s.Product, product, test.product)
			wantOpen(t, s.Unique, unique, test.unique)
		})
	}
}

func TestGramineKeys(t *testing.T) {
	for name, key := range map[string][]byte{
		"has not 16 bytes": make([]byte, 15), "keys/_sgx_mrenclave has not": make([]byte, 17), "not 16": {},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "dev/attestation/keys")
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "_sgx_mrsigner"), bytes.Repeat([]byte{1}, 16), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "_sgx_mrenclave"), key, 0o600))
		if _, err := For(t.Context(), inGramine, Config{Root: root}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("key of %d bytes: %v", len(key), err)
		}
	}
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "dev/attestation/keys"), 0o700))
	for _, name := range []string{"_sgx_mrsigner", "_sgx_mrenclave"} {
		must(t, os.WriteFile(filepath.Join(root, "dev/attestation/keys", name), make([]byte, 16), 0o600))
	}
	_, err := sealersOf(t, inGramine, Config{Root: root}).Product.Seal(t.Context(), secret, nil)
	if !errors.Is(err, errZeroKey) {
		t.Errorf("key of zeros: %v", err)
	}
}

func TestNoSealers(t *testing.T) {
	g := firstGuest(milan())
	full := Config{Root: t.TempDir(), open: g.open}
	keys := filepath.Join(full.Root, "dev/attestation/keys")
	must(t, os.MkdirAll(keys, 0o700))
	for _, name := range []string{"_sgx_mrsigner", "_sgx_mrenclave"} {
		must(t, os.WriteFile(filepath.Join(keys, name), bytes.Repeat([]byte{1}, 16), 0o600))
	}
	absent := Config{Root: t.TempDir(), open: func(string) (device, error) { return nil, fs.ErrNotExist }}
	for _, test := range []struct {
		from source
		cfg  Config
	}{
		{source{"configfs-tsm", attest.TDX}, full},
		{source{"ego", attest.SGX}, full}, {source{"occlum", attest.SGX}, full},
		{source{"socket", attest.SNP}, full}, {source{"socket", attest.SGX}, full}, {source{"gramine", attest.TDX}, full},
		{inGramine, absent}, {inSNP, absent},
	} {
		var log bytes.Buffer
		test.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		s, err := For(t.Context(), test.from, test.cfg)
		if err != nil || s.Product != nil || s.Unique != nil {
			t.Errorf("%v: %+v, %v", test.from, s, err)
		}
		if !strings.Contains(log.String(), "opens by recovery") {
			t.Errorf("%v: log %q", test.from, log.String())
		}
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := firstGuest(milan())
	for _, s := range []seal.Sealer{enclave{}.start(t).Product, g.start(t, false).Product} {
		_, sealErr := s.Seal(ctx, secret, aad)
		_, openErr := s.Unseal(ctx, nil, aad)
		if !errors.Is(sealErr, context.Canceled) || !errors.Is(openErr, context.Canceled) {
			t.Errorf("%v, %v", sealErr, openErr)
		}
	}
	if _, err := For(ctx, inSNP, Config{open: g.open}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
