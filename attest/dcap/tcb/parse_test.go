// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcb

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
)

const (
	comps = `{"svn":1},{"svn":2,"category":"BIOS","type":"x"},{"svn":3},{"svn":4},{"svn":5},{"svn":6},{"svn":7},` +
		`{"svn":8},` +
		`{"svn":9},{"svn":10},{"svn":11},{"svn":12},{"svn":13},{"svn":14},{"svn":15},{"svn":255}`
	sgxJSON = `{"id":"SGX","version":3,"issueDate":"2025-06-06T12:30:41Z","nextUpdate":"2025-07-06T12:30:41Z",` +
		`"fmspc":"00606A000001","pceId":"0002","tcbType":0,"tcbEvaluationDataNumber":17,"tcbLevels":[` +
		`{"tcb":{"sgxtcbcomponents":[` + comps + `],"pcesvn":13},"tcbDate":"2024-03-13T00:00:00Z",` +
		`"tcbStatus":"SWHardeningNeeded","advisoryIDs":["INTEL-SA-00615"]}]}`
	tdxJSON = `{"id":"TDX","version":3,"issueDate":"2025-06-06T12:30:41Z","nextUpdate":"2025-07-06T12:30:41Z",` +
		`"fmspc":"00606a000001","pceId":"0002","tcbType":0,"tcbEvaluationDataNumber":17,"tdxModule":{"mrsigner":"` + hex48 +
		`","attributes":"0000000000000000","attributesMask":"FFFFFFFFFFFFFFFF"},"tdxModuleIdentities":[{"id":"TDX_01",` +
		`"mrsigner":"` + hex48 + `","attributes":"0000000000000000","attributesMask":"FFFFFFFFFFFFFFFF","tcbLevels":[` +
		`{"tcb":{"isvsvn":2},"tcbDate":"2023-03-13T00:00:00Z","tcbStatus":"OutOfDate"},` +
		`{"tcb":{"isvsvn":4},"tcbDate":"2024-03-13T00:00:00Z","tcbStatus":"UpToDate"}]}],"tcbLevels":[` +
		`{"tcb":{"sgxtcbcomponents":[` + comps + `],"pcesvn":13,"tdxtcbcomponents":[` + comps + `]},` +
		`"tcbDate":"2024-03-13T00:00:00Z","tcbStatus":"UpToDate"}]}`
	identityJSON = `{"id":"TD_QE","version":2,"issueDate":"2026-03-16T22:16:03Z","nextUpdate":"2026-04-15T22:16:03Z",` +
		`"tcbEvaluationDataNumber":18,"miscselect":"00000001","miscselectMask":"FFFFFFFF","attributes":"1100000000000000` +
		`0000000000000000","attributesMask":"FBFFFFFFFFFFFFFF0000000000000000","mrsigner":"DC9E2A7C6F948F17474E34A7FC43ED` +
		`030F7C1563F1BABDDF6340C82E0E54A8C5","isvprodid":2,"tcbLevels":[{"tcb":{"isvsvn":4},"tcbDate":` +
		`"2024-11-13T00:00:00Z","tcbStatus":"UpToDate"}]}`
	hex48 = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
)

func TestParseInfo(t *testing.T) {
	got, err := ParseInfo([]byte(sgxJSON))
	if err != nil {
		t.Fatal(err)
	}
	want := &Info{TEE: attest.SGX, Version: 3, IssueDate: time.Date(2025, 6, 6, 12, 30, 41, 0, time.UTC),
		NextUpdate: time.Date(2025, 7, 6, 12, 30, 41, 0, time.UTC), FMSPC: [6]byte{0, 0x60, 0x6a, 0, 0, 1},
		PCEID: [2]byte{0, 2}, EvaluationDataNumber: 17, Levels: []Level{{
			SGX: SVNs{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}, PCESVN: 13,
			Date: time.Date(2024, 3, 13, 0, 0, 0, 0, time.UTC), Status: attest.SWHardeningNeeded,
			Advisories: []string{"INTEL-SA-00615"}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	tdx, err := ParseInfo([]byte(tdxJSON))
	if err != nil {
		t.Fatal(err)
	}
	if tdx.Modules[0].Levels[0].ISVSVN != 4 || tdx.Levels[0].TDX[15] != 255 || tdx.module("tdx_01") == nil {
		t.Errorf("got %+v", tdx)
	}
}

func TestParseIdentity(t *testing.T) {
	got, err := ParseIdentity([]byte(identityJSON))
	if err != nil {
		t.Fatal(err)
	}
	if got.TEE != attest.TDX || got.ISVProdID != 2 || got.Levels[0].ISVSVN != 4 || got.MRSigner[0] != 0xdc ||
		got.MiscSelect != [4]byte{0, 0, 0, 1} || got.AttributesMask[0] != 0xfb || got.EvaluationDataNumber != 18 {
		t.Errorf("got %+v", got)
	}
}

// TestParseRefuses makes one change to a good document, which must not be read then.
func TestParseRefuses(t *testing.T) {
	info := func(b []byte) error { _, err := ParseInfo(b); return err }
	identity := func(b []byte) error { _, err := ParseIdentity(b); return err }
	for _, test := range []struct {
		parse         func([]byte) error
		doc, old, new string
	}{
		{info, sgxJSON, `"version":3`, `"version":1`},
		{info, sgxJSON, `"version":3`, `"version":2`},
		{info, sgxJSON, `"version":3,`, ``},
		{info, sgxJSON, `"version":3`, `"version":3,"version":3`},
		{info, sgxJSON, `"id":"SGX",`, ``},
		{info, sgxJSON, `"id":"SGX"`, `"id":"TDX"`},
		{info, sgxJSON, `"tcbType":0`, `"tcbType":1`},
		{info, sgxJSON, `"tcbType":0,`, ``},
		{info, sgxJSON, `00606A000001`, `00606A0000`},
		{info, sgxJSON, `00606A000001`, `00606A00000g`},
		{info, sgxJSON, `"pceId":"0002",`, ``},
		{info, sgxJSON, `2025-06-06T12:30:41Z`, `2025-06-06`},
		{info, sgxJSON, `"nextUpdate":"2025-07-06T12:30:41Z",`, ``},
		{info, sgxJSON, `"tcbEvaluationDataNumber":17`, `"tcbEvaluationDataNumber":-1`},
		{info, sgxJSON, `"tcbEvaluationDataNumber":17`, `"tcbEvaluationDataNumber":1.5`},
		{info, sgxJSON, `"svn":255`, `"svn":256`},
		{info, sgxJSON, `{"svn":1},`, ``},
		{info, sgxJSON, `{"svn":1},`, `{"svn":1},{"svn":1},`},
		{info, sgxJSON, `{"svn":1}`, `{"category":"x"}`},
		{info, sgxJSON, `"pcesvn":13`, `"pcesvn":65536`},
		{info, sgxJSON, `,"pcesvn":13`, ``},
		{info, sgxJSON, `"tcbStatus":"SWHardeningNeeded",`, ``},
		{info, sgxJSON, `"tcbDate":"2024-03-13T00:00:00Z",`, ``},
		{info, sgxJSON, `["INTEL-SA-00615"]`, `[1]`},
		{info, sgxJSON, `]}]}`, `]}]} x`},
		{info, sgxJSON, `]}]}`, `]}]`},
		{info, tdxJSON, `,"tdxtcbcomponents":[` + comps + `]`, ``},
		{info, tdxJSON, `"id":"TDX"`, `"id":"SGX"`},
		{info, tdxJSON, `"attributes":"0000000000000000",`, ``},
		{info, tdxJSON, `"id":"TDX_01",`, ``},
		{info, tdxJSON, `"isvsvn":2`, `"isvsvn":4`},
		{info, tdxJSON, `"isvsvn":2`, `"isv":2`},
		{info, tdxJSON, `"tdxModule":`, `"tdxModul":`},
		{identity, identityJSON, `"version":2`, `"version":1`},
		{identity, identityJSON, `TD_QE`, `QVE`},
		{identity, identityJSON, `"isvprodid":2,`, ``},
		{identity, identityJSON, `"FFFFFFFF"`, `"FFFFFF"`},
		{identity, identityJSON, `"miscselect":"00000001",`, ``},
		{identity, identityJSON, `"attributesMask"`, `"attributesMas"`},
		{identity, identityJSON, `"mrsigner"`, `"MRSIGNER"`},
		{identity, identityJSON, `[{"tcb"`, `[],"x":[{"tcb"`},
	} {
		changed := strings.Replace(test.doc, test.old, test.new, 1)
		if changed == test.doc {
			t.Fatalf("%q is not in the document", test.old)
		}
		if err := test.parse([]byte(changed)); err == nil {
			t.Errorf("accepted with %q instead of %q", test.new, test.old)
		}
	}
	if err := info([]byte(strings.Repeat(" ", MaxSize) + sgxJSON)); err == nil {
		t.Error("accepted above the largest size")
	}
}

// FuzzParseInfo: what is read has at least one level, all complete, in descending order.
func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(sgxJSON))
	f.Add([]byte(tdxJSON))
	f.Add([]byte(strings.Replace(sgxJSON, `"version"`, `"versi\u006fn"`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseInfo(data)
		if err != nil {
			return
		}
		for i := 1; i < len(info.Levels); i++ {
			if info.Levels[i].compare(info.Levels[i-1]) >= 0 {
				t.Error("levels not in descending order")
			}
		}
		if len(info.Levels) == 0 || info.TEE == attest.TDX && info.Module == nil {
			t.Error("incomplete TCB info accepted")
		}
		identity := &Identity{TEE: info.TEE, Levels: []EnclaveLevel{{Status: attest.UpToDate}}}
		m := Measured{TEE: info.TEE, FMSPC: info.FMSPC, PCEID: info.PCEID, SGX: all(255), PCESVN: 65535, SVN: all(255, 9, 1),
			SVN2: all(255), Has2: true}
		if rating, reasons := Evaluate(info, identity, m); len(reasons) == 0 && rating.Status == "" {
			t.Error("no status and no reason")
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte(identityJSON))
	f.Fuzz(func(t *testing.T, data []byte) {
		if identity, err := ParseIdentity(data); err == nil && len(identity.Levels) == 0 {
			t.Error("identity without levels accepted")
		}
	})
}
