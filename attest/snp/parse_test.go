// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
)

func TestCertTable(t *testing.T) {
	want := snp.CertTable{VCEK: []byte("vcek"), ASK: []byte("ask"), ARK: []byte("ark"), CRL: []byte("crl")}
	raw := want.Marshal()
	got, err := snp.ParseCertTable(append(raw, make([]byte, 100)...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c := got.Certificates(snp.VCEK); string(c.VEK) != "vcek" || string(c.CRL) != "crl" {
		t.Errorf("certificates: %q", c)
	}
	if c := (snp.CertTable{VCEK: []byte("c"), VLEK: []byte("l")}).Certificates(snp.VLEK); string(c.VEK) != "l" {
		t.Errorf("VLEK: %q", c.VEK)
	}
	// Some hosts write GUIDs in mixed byte order, and entries that we do not know.
	slices.Reverse(raw[0:4])
	slices.Reverse(raw[4:6])
	slices.Reverse(raw[6:8])
	copy(raw[24:40], "an unknown GUID!")
	got, err = snp.ParseCertTable(raw)
	want.ASK = nil
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("mixed order: %v (-want +got):\n%s", err, diff)
	}
	for _, empty := range [][]byte{nil, make([]byte, 24), make([]byte, 4096)} {
		if got, err := snp.ParseCertTable(empty); err != nil || !cmp.Equal(got, snp.CertTable{}) {
			t.Errorf("empty: %q %v", got, err)
		}
	}
}

func TestCertTableRefuses(t *testing.T) {
	raw := snp.CertTable{VCEK: []byte("vcek"), ASK: []byte("ask")}.Marshal()
	put := func(at int, v uint32) []byte {
		b := slices.Clone(raw)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	entry, unknown := raw[:24], []byte("an unknown GUID!\x00\x00\x00\x00\x00\x00\x00\x00")
	for name, b := range map[string][]byte{
		"offset outside":  put(16, uint32(len(raw))),
		"length outside":  put(20, uint32(len(raw))),
		"overflow":        put(16, 1<<32-1),
		"no terminator":   raw[:48],
		"cut entry":       raw[:30],
		"twice":           slices.Concat(entry, entry, raw[48:]),
		"too many":        append(bytes.Repeat(unknown, 80), make([]byte, 1024)...),
		"oversized":       make([]byte, 1<<21),
		"one byte":        {1},
		"one zero byte":   {0},
		"huge everything": bytes.Repeat([]byte{0xFF}, 48),
	} {
		if got, err := snp.ParseCertTable(b); err == nil {
			t.Errorf("%s: %q", name, got)
		} else {
			wantCode(t, err, snp.CodeFormat)
		}
	}
}

func TestReportSizes(t *testing.T) {
	for _, n := range []int{0, 1, 671, 1183, 1185, 4000} {
		_, err := snp.ParseReport(make([]byte, n))
		wantCode(t, err, snp.CodeFormat)
	}
}

func TestPolicyBits(t *testing.T) {
	bits := snp.PolicyBits(1<<16 | 1<<17 | 1<<25)
	var set []string
	for i, b := range bits {
		if b.Set {
			set = append(set, b.Name)
		}
		if i > 0 && b.Bit <= bits[i-1].Bit {
			t.Errorf("%s is out of order", b.Name)
		}
	}
	if diff := cmp.Diff([]string{"SMT", "PAGE_SWAP_DISABLE"}, set); diff != "" || len(bits) != 9 {
		t.Errorf("%d bits: %s", len(bits), diff)
	}
}

func TestSplitJoin(t *testing.T) {
	for _, p := range snp.Products() {
		want := attest.SNPTCB{Bootloader: 2, TEE: 3, SNP: 4, Microcode: 5}
		if p == snp.Turin {
			want.FMC = 1
		}
		if got := snp.Join(p, want).Split(p); got != want {
			t.Errorf("%s: %+v", p, got)
		}
	}
	all := attest.SNPTCB{FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 5}
	if got := snp.Join(snp.Turin, all); got != (snp.TCB{1, 2, 3, 4, 0, 0, 0, 5}) {
		t.Errorf("Turin: %x", got)
	}
	if got := snp.Join(snp.Milan, all); got != (snp.TCB{2, 3, 0, 0, 0, 0, 4, 5}) {
		t.Errorf("Milan: %x", got)
	}
}

func TestSplitChainAndRoots(t *testing.T) {
	ask, ark := snp.AMDChain(snp.Milan, snp.VCEK)
	for name, chain := range map[string][]byte{"none": nil, "one": ask, "three": slices.Concat(ask, ark, ask),
		"tail": append(slices.Concat(ask, ark), "tail"...), "huge": make([]byte, 1<<20)} {
		if _, _, err := snp.SplitChain(chain); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := snp.ParseRoots(ask); err == nil {
		t.Error("an intermediate is taken for a root")
	}
	if _, err := snp.ParseRoots([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")); err == nil {
		t.Error("rubbish is taken for a root")
	}
}
