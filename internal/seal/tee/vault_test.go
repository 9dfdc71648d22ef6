// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"bytes"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/vault"
)

// recovery is R.
var recovery = bytes.Repeat([]byte{0xA}, 32)

// boot opens a state directory in a TEE.
func boot(t *testing.T, dir, tee string, s seal.Sealers) (*vault.Vault, vault.Boot) {
	t.Helper()
	v, boot, err := vault.Open(t.Context(), vault.Config{Dir: dir, TEE: tee, Sealers: s})
	must(t, err)
	t.Cleanup(func() { _ = v.Close(t.Context()) })
	return v, boot
}

// create writes a state and stops.
func create(t *testing.T, dir, tee, mode string, s seal.Sealers) {
	t.Helper()
	v, _ := boot(t, dir, tee, s)
	must(t, v.Create(t.Context(), vault.Genesis{SealMode: mode, RecoverySecret: recovery, Record: []byte("genesis")}))
	must(t, v.Close(t.Context()))
}

// wantState replays an open vault.
func wantState(t *testing.T, v *vault.Vault) {
	t.Helper()
	var got []string
	must(t, v.Replay(t.Context(), func([]byte) error { return nil }, func(r vault.Record) error {
		got = append(got, string(r.Payload))
		return nil
	}))
	if len(got) != 1 || got[0] != "genesis" {
		t.Errorf("replayed %q", got)
	}
}

// The table of coordinator-runtime §7: which machine and which program open which state at once, which by recovery,
// and that what was recovered opens at once from then on.
func TestVault(t *testing.T) {
	first := enclave{"cpu 1", "microcode", "code 1", "signer", 7, 2}
	updated, moved := first, first
	updated.mrEnclave, moved.cpu = "code 2", "cpu 2"
	guest, newKernel, otherChip := firstGuest(milan()), firstGuest(milan()), firstGuest(milan())
	newKernel.measurement, newKernel.svn, otherChip.chip.key = "kernel 2", 6, "chip 2"
	none := seal.Sealers{}
	for _, test := range []struct {
		name, tee, mode string
		before, after   seal.Sealers
		reason          string // of phase Sealed; "": opens at once
	}{
		{"same enclave", "sgx", vault.ProductKey, first.start(t), first.start(t), ""},
		{"same enclave", "sgx", vault.UniqueKey, first.start(t), first.start(t), ""},
		{"updated enclave", "sgx", vault.ProductKey, first.start(t), updated.start(t), ""},
		{"updated enclave", "sgx", vault.UniqueKey, first.start(t), updated.start(t), "gramine-unique"},
		{"other machine", "sgx", vault.ProductKey, first.start(t), moved.start(t), "gramine-product"},
		{"other machine", "sgx", vault.UniqueKey, first.start(t), moved.start(t), "gramine-unique"},
		{"same guest", "snp", vault.ProductKey, guest.start(t, false), guest.start(t, false), ""},
		{"updated guest", "snp", vault.ProductKey, guest.start(t, false), newKernel.start(t, false), "snp-product"},
		{"updated guest by ID block", "snp", vault.ProductKey, guest.start(t, true), newKernel.start(t, true), ""},
		{"older guest by ID block", "snp", vault.ProductKey, newKernel.start(t, true), guest.start(t, true), "SVN 6"},
		{"updated guest", "snp", vault.UniqueKey, guest.start(t, true), newKernel.start(t, true), "snp-unique"},
		{"other machine", "snp", vault.ProductKey, guest.start(t, false), otherChip.start(t, false), "snp-product"},
		{"no sealing keys", "tdx", vault.ProductKey, none, none, "no slots"},
	} {
		t.Run(test.name+" "+test.mode, func(t *testing.T) {
			dir := t.TempDir()
			create(t, dir, test.tee, test.mode, test.before)
			v, found := boot(t, dir, test.tee, test.after)
			if test.reason == "" {
				if found.Phase != vault.Ready {
					t.Fatalf("%+v", found)
				}
				wantState(t, v)
				return
			}
			if found.Phase != vault.Sealed || !strings.Contains(found.Reason, test.reason) {
				t.Fatalf("%+v", found)
			}
			must(t, v.Recover(t.Context(), recovery))
			wantState(t, v)
			must(t, v.Close(t.Context()))
			if test.after.Product == nil {
				return
			}
			v, found = boot(t, dir, test.tee, test.after)
			if found.Phase != vault.Ready {
				t.Errorf("after recovery: %+v", found)
			}
			wantState(t, v)
		})
	}
}
