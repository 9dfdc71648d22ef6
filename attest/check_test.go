// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marblerun/marblerun/attest"
)

func ptr[T any](v T) *T { return &v }

func date(s string) time.Time {
	d, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return d
}

func sgxClaims(status attest.TCBStatus, advisories ...string) *attest.Claims {
	return &attest.Claims{TEE: attest.SGX, TCBStatus: status, PlatformStatus: status, QEStatus: attest.UpToDate,
		TCBDate: date("2024-03-13"), QEDate: date("2023-08-09"), PlatformAdvisories: advisories, Advisories: advisories,
		TCBEvaluationDataNumber: 18, QEEvaluationDataNumber: 17,
		Short:   []attest.ShortComponent{{Name: "sgx[3]", Got: 2, Want: 5}},
		Machine: attest.Machine{PPID: "aabb", FMSPC: "00606a000000"},
		SGX:     &attest.SGXClaims{MRENCLAVE: "e1e1", MRSIGNER: "5151", ISVPRODID: 7, ISVSVN: 3}}
}

func tdxClaims() *attest.Claims {
	return &attest.Claims{TEE: attest.TDX, TCBStatus: attest.UpToDate, PlatformStatus: attest.UpToDate,
		QEStatus: attest.UpToDate, TDX: &attest.TDXClaims{MRTD: "d0", RTMR: [4]string{"a0", "a1", "a2", "a3"},
			MRConfigID: "c1", MROwner: "c2", MROwnerConfig: "c3", MRSEAM: "c4", TDAttributes: "c5", XFAM: "c6"}}
}

func snpClaims() *attest.Claims {
	version := attest.SNPTCB{Bootloader: 3, TEE: 0, SNP: 8, Microcode: 115}
	return &attest.Claims{TEE: attest.SNP, TCBStatus: attest.UpToDate, Machine: attest.Machine{ChipID: "cc"},
		SNP: &attest.SNPClaims{Measurement: "b0", HostData: "b1", IDKeyDigest: "b2", AuthorKeyDigest: "b3", GuestSVN: 4,
			Policy: 1<<16 | 1<<17, VMPL: 1, Product: "Milan",
			Reported: version, Committed: version, Launch: version}}
}

// fields lists the fields of the reasons.
func fields(v attest.Verdict) string {
	var list []string
	for _, r := range v.Reasons {
		list = append(list, cmp.Or(r.Field, "-"))
	}
	return strings.Join(list, " ")
}

// checkCase holds claims against a policy; want lists the fields that refuse, in order, "" for accepted.
type checkCase struct {
	claims *attest.Claims
	policy attest.Policy
	want   string
}

func runChecks(t *testing.T, cases map[string]checkCase) {
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got := test.policy.Check(test.claims)
			if diff := gocmp.Diff(test.want, fields(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Accepted != (len(got.Reasons) == 0) || (got.Err() == nil) != got.Accepted {
				t.Errorf("verdict contradicts itself: %+v", got)
			}
			for _, r := range got.Reasons {
				if r.Text == "" {
					t.Errorf("reason without text: %+v", r)
				}
			}
		})
	}
}

func TestCheckSGX(t *testing.T) {
	sgx, tdx := &attest.SGXPolicy{}, &attest.TDXPolicy{}
	debug := sgxClaims(attest.UpToDate)
	debug.Debug = true
	runChecks(t, map[string]checkCase{
		"no claims":          {nil, attest.Policy{SGX: sgx}, "-"},
		"no TEE":             {sgxClaims(attest.UpToDate), attest.Policy{}, "TEE"},
		"two TEEs":           {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx, TDX: tdx}, "TEE"},
		"another TEE":        {sgxClaims(attest.UpToDate), attest.Policy{TDX: tdx}, "TEE"},
		"claims without SGX": {&attest.Claims{TEE: attest.SGX, TCBStatus: attest.UpToDate}, attest.Policy{SGX: sgx}, "TEE"},
		"nothing pinned":     {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx}, ""},
		"all of SGX": {sgxClaims(attest.UpToDate), attest.Policy{SGX: &attest.SGXPolicy{UniqueID: "E1e1", SignerID: "5151",
			ProductID: ptr(uint64(7)), SecurityVersion: ptr(uint(3))}}, ""},
		"lower security version": {sgxClaims(attest.UpToDate), attest.Policy{SGX: &attest.SGXPolicy{
			SecurityVersion: ptr(uint(0))}}, ""},
		"everything of SGX wrong": {debug, attest.Policy{SGX: &attest.SGXPolicy{UniqueID: "00", SignerID: "515",
			ProductID: ptr(uint64(7 + 1<<16)), SecurityVersion: ptr(uint(4))}, MinimumTCBEvaluationDataNumber: 19,
			Machines: []attest.Machine{{PPID: "00"}}}, "UniqueID SignerID ProductID SecurityVersion Debug " +
			"MinimumTCBEvaluationDataNumber MinimumTCBEvaluationDataNumber Machines"},
		"product 0 is pinned": {sgxClaims(attest.UpToDate),
			attest.Policy{SGX: &attest.SGXPolicy{ProductID: ptr(uint64(0))}}, "ProductID"},
		"debug wanted":           {debug, attest.Policy{SGX: sgx, Debug: true}, ""},
		"debug wanted, not had":  {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx, Debug: true}, "Debug"},
		"debug not wanted":       {debug, attest.Policy{SGX: sgx}, "Debug"},
		"debug allowed":          {debug, attest.Policy{SGX: sgx, DebugAllowed: true}, ""},
		"debug allowed, not had": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx, DebugAllowed: true}, ""},
	})
}

func TestCheckTCB(t *testing.T) {
	sgx := &attest.SGXPolicy{}
	hardening := sgxClaims(attest.SWHardeningNeeded, "INTEL-SA-00615", "INTEL-SA-00657")
	runChecks(t, map[string]checkCase{
		"status not listed": {hardening, attest.Policy{SGX: sgx}, "AcceptedTCBStatuses"},
		"status listed":     {hardening, attest.Policy{SGX: sgx, AcceptedTCBStatuses: []string{"SWHardeningNeeded"}}, ""},
		"status in lower case": {hardening, attest.Policy{SGX: sgx, AcceptedTCBStatuses: []string{"swhardeningneeded"}},
			"AcceptedTCBStatuses"},
		"up to date need not be listed": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx,
			AcceptedTCBStatuses: []string{"OutOfDate"}}, ""},
		"revoked listed": {sgxClaims(attest.Revoked), attest.Policy{SGX: sgx, AcceptedTCBStatuses: []string{"Revoked"}}, ""},
		"not supported, listed": {sgxClaims(attest.NotSupported), attest.Policy{SGX: sgx,
			AcceptedTCBStatuses: []string{"NotSupported"}}, "AcceptedTCBStatuses"},
		"no status, listed": {sgxClaims(""), attest.Policy{SGX: sgx, AcceptedTCBStatuses: []string{""}},
			"AcceptedTCBStatuses"},
		"advisories all listed": {hardening, attest.Policy{SGX: sgx, AcceptedTCBStatuses: []string{"SWHardeningNeeded"},
			AcceptedAdvisories: []string{"intel-sa-00657", "INTEL-SA-00615"}}, ""},
		"an advisory is not listed": {hardening, attest.Policy{SGX: sgx, AcceptedTCBStatuses: []string{"SWHardeningNeeded"},
			AcceptedAdvisories: []string{"INTEL-SA-00615"}}, "AcceptedAdvisories"},
		"advisories of another status": {sgxClaims(attest.OutOfDate, "INTEL-SA-1"), attest.Policy{SGX: sgx,
			AcceptedTCBStatuses: []string{"OutOfDate"}, AcceptedAdvisories: []string{"INTEL-SA-2"}}, ""},
		"machine listed": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx, Machines: []attest.Machine{{ChipID: "aabb"},
			{PPID: "AABB"}}}, ""},
		"machine with another FMSPC": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx,
			Machines: []attest.Machine{{PPID: "AABB", FMSPC: "00"}}}, "Machines"},
		"empty machine covers nothing": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx, Machines: []attest.Machine{{}}},
			"Machines"},
		"evaluation data number": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx, MinimumTCBEvaluationDataNumber: 17},
			""},
		"evaluation data number of the QE identity": {sgxClaims(attest.UpToDate), attest.Policy{SGX: sgx,
			MinimumTCBEvaluationDataNumber: 18}, "MinimumTCBEvaluationDataNumber"},
	})
}

func TestCheckTDXAndSNP(t *testing.T) {
	snp := &attest.SNPPolicy{}
	turin := snpClaims()
	turin.SNP.Product = "Turin"
	nameless := snpClaims()
	nameless.Machine = attest.Machine{}
	runChecks(t, map[string]checkCase{
		"all of TDX": {tdxClaims(), attest.Policy{TDX: &attest.TDXPolicy{MRTD: "D0", RTMR: [4]string{"a0", "a1", "a2", "a3"},
			MRConfigID: "c1", MROwner: "c2", MROwnerConfig: "c3", MRSEAM: "c4", TDAttributes: "c5", XFAM: "c6"}}, ""},
		"everything of TDX wrong": {tdxClaims(), attest.Policy{TDX: &attest.TDXPolicy{MRTD: "0", RTMR: [4]string{"0", "0",
			"0", "0"},
			MRConfigID: "0", MROwner: "0", MROwnerConfig: "0", MRSEAM: "0", TDAttributes: "0", XFAM: "0"}},
			"TDX.MRTD TDX.RTMR0 TDX.RTMR1 TDX.RTMR2 TDX.RTMR3 TDX.MRConfigID TDX.MROwner TDX.MROwnerConfig TDX.MRSEAM " +
				"TDX.TDAttributes TDX.XFAM"},

		"all of SNP": {snpClaims(), attest.Policy{SNP: &attest.SNPPolicy{Measurement: "B0", HostData: "b1", IDKeyDigest: "b2",
			AuthorKeyDigest: "b3", GuestSVN: ptr(uint32(4)), Policy: map[string]bool{"SMT": true, "debug": false},
			MinimumTCB: &attest.SNPTCB{Bootloader: 3, SNP: 8, Microcode: 115, FMC: 9}, VMPL: ptr(uint32(1))}}, ""},
		"everything of SNP wrong": {snpClaims(), attest.Policy{SNP: &attest.SNPPolicy{Measurement: "0", HostData: "0",
			IDKeyDigest: "0", AuthorKeyDigest: "0", GuestSVN: ptr(uint32(5)),
			Policy:     map[string]bool{"SMT": false, "Single_Socket": true, "UNHEARD_OF": true},
			MinimumTCB: &attest.SNPTCB{Bootloader: 4}, VMPL: ptr(uint32(0))}, MinimumTCBEvaluationDataNumber: 30},
			"SNP.Measurement SNP.HostData SNP.IDKeyDigest SNP.AuthorKeyDigest SNP.GuestSVN SNP.Policy.SMT " +
				"SNP.Policy.Single_Socket SNP.Policy.UNHEARD_OF SNP.VMPL SNP.MinimumTCB"},
		"SNP below the minimum, but accepted": {snpClaims(), attest.Policy{SNP: &attest.SNPPolicy{
			MinimumTCB: &attest.SNPTCB{Microcode: 116}}, AcceptedTCBStatuses: []string{"OutOfDate"}}, ""},
		"SNP minimum compares parts, not one number": {snpClaims(), attest.Policy{SNP: &attest.SNPPolicy{
			MinimumTCB: &attest.SNPTCB{TEE: 1, Microcode: 1}}}, "SNP.MinimumTCB"},
		"FMC of Turin": {turin, attest.Policy{SNP: &attest.SNPPolicy{MinimumTCB: &attest.SNPTCB{FMC: 1}}}, "SNP.MinimumTCB"},
		"grace does not cover SNP": {snpClaims(), attest.Policy{SNP: &attest.SNPPolicy{
			MinimumTCB: &attest.SNPTCB{Microcode: 116}}, TCBDateAfter: date("2000-01-01")}, "SNP.MinimumTCB"},
		"chip listed": {snpClaims(), attest.Policy{SNP: snp, Machines: []attest.Machine{{ChipID: "CC"}}}, ""},
		"chip listed as in a report of a Turin": {turin, attest.Policy{SNP: snp,
			Machines: []attest.Machine{{ChipID: "cc" + strings.Repeat("00", 63)}}}, ""},
		"chip of zeros, chip unknown": {nameless, attest.Policy{SNP: snp,
			Machines: []attest.Machine{{ChipID: strings.Repeat("00", 64)}}}, "Machines"},
	})
}

// TestReasonsExplain is the golden form of what people read.
func TestReasonsExplain(t *testing.T) {
	c := sgxClaims(attest.OutOfDate, "INTEL-SA-00615")
	policy := attest.Policy{SGX: &attest.SGXPolicy{SignerID: "00", SecurityVersion: ptr(uint(5))},
		AcceptedTCBStatuses: []string{"SWHardeningNeeded"}}
	want := []attest.Reason{
		{Field: "SignerID", Want: "00", Got: "5151", Text: "SignerID is 5151, wanted 00", Change: `set SignerID to "5151"`},
		{Field: "SecurityVersion", Want: "at least 5", Got: "3", Text: "SecurityVersion is 3, wanted at least 5",
			Change: "lower SecurityVersion to 3"},
		{Field: "AcceptedTCBStatuses", Want: "UpToDate, SWHardeningNeeded", Got: "OutOfDate",
			Text: "TCB status OutOfDate is not accepted: platform is OutOfDate, sgx[3] has 2, the newest level wants 5; " +
				"advisories INTEL-SA-00615",
			Change: `add "OutOfDate" to AcceptedTCBStatuses, or set TCBDateAfter to 2024-03-13 or earlier`},
	}
	got := policy.Check(c)
	if diff := gocmp.Diff(want, got.Reasons); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var refusal *attest.Refusal
	if err := got.Err(); !errors.As(err, &refusal) || !strings.HasPrefix(err.Error(), "SignerID is 5151, wanted 00; Sec") {
		t.Error(err)
	}
	minimum := attest.Policy{SNP: &attest.SNPPolicy{MinimumTCB: &attest.SNPTCB{SNP: 9, Microcode: 200}}}.Check(snpClaims())
	wantSNP := []attest.Reason{{Field: "SNP.MinimumTCB", Want: "at least snp 9, microcode 200",
		Got: "snp 8, microcode 115",
		Text: "TCB status OutOfDate is not accepted: the platform has snp 8, microcode 115, wanted at least snp 9, " +
			"microcode 200",
		Change: `lower SNP.MinimumTCB: snp to 8, microcode to 115, or add "OutOfDate" to AcceptedTCBStatuses`}}
	if diff := gocmp.Diff(wantSNP, minimum.Reasons); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	launched := snpClaims()
	launched.SNP.Committed.SNP, launched.SNP.Launch.Microcode = 7, 100
	minimum = attest.Policy{SNP: &attest.SNPPolicy{MinimumTCB: &launched.SNP.Reported}}.Check(launched)
	wantSNP = []attest.Reason{{Field: "SNP.MinimumTCB", Want: "at least snp 8, microcode 115",
		Got: "committed snp 7, launch microcode 100",
		Text: "TCB status OutOfDate is not accepted: the platform has committed snp 7, launch microcode 100, wanted at " +
			"least snp 8, microcode 115",
		Change: `lower SNP.MinimumTCB: snp to 7, microcode to 100, or add "OutOfDate" to AcceptedTCBStatuses`}}
	if diff := gocmp.Diff(wantSNP, minimum.Reasons); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, status := range []attest.TCBStatus{attest.Revoked, attest.NotSupported} {
		v := attest.Policy{SGX: &attest.SGXPolicy{}}.Check(sgxClaims(status))
		if len(v.Reasons) != 1 || v.Reasons[0].Change != "" {
			t.Errorf("%s: a change is offered: %+v", status, v.Reasons)
		}
	}
	if data, _ := json.Marshal(attest.Policy{SGX: &attest.SGXPolicy{}}.Check(sgxClaims(attest.UpToDate))); string(data) !=
		`{"accepted":true,"reasons":[],"tcbStatus":"UpToDate"}` {
		t.Errorf("JSON: %s", data)
	}
}

// TestGrace: TCBDateAfter covers each half that is not older, inclusively, and nothing else.
func TestGrace(t *testing.T) {
	const old, baseline, fresh = "2023-08-08", "2023-08-09", "2023-08-10"
	claims := func(status, platform, module, qe attest.TCBStatus, dates ...string) *attest.Claims {
		c := &attest.Claims{TEE: attest.TDX, TCBStatus: status, PlatformStatus: platform, ModuleStatus: module, QEStatus: qe,
			TDX: &attest.TDXClaims{}}
		for i, d := range []*time.Time{&c.TCBDate, &c.ModuleDate, &c.QEDate} {
			if i < len(dates) {
				*d = date(dates[i])
			}
		}
		return c
	}
	const ok, ood, none = attest.UpToDate, attest.OutOfDate, attest.TCBStatus("")
	for name, test := range map[string]struct {
		claims *attest.Claims
		want   attest.TCBStatus
	}{
		"platform at the baseline":    {claims(ood, ood, none, ok, baseline), ok},
		"platform after the baseline": {claims(ood, ood, none, ok, fresh), ok},
		"platform before":             {claims(ood, ood, none, ok, old), ood},
		"platform without a date":     {claims(ood, ood, none, ok), ood},
		"configuration remains": {claims(attest.OutOfDateConfigurationNeeded, attest.OutOfDateConfigurationNeeded, none, ok,
			fresh), attest.ConfigurationNeeded},
		"module after":               {claims(ood, ok, ood, ok, old, fresh), ok},
		"fresh platform, old module": {claims(ood, ood, ood, ok, fresh, old), ood},
		"fresh platform, old QE":     {claims(ood, ood, ok, ood, fresh, fresh, old), ood},
		"all halves after":           {claims(ood, ood, ood, ood, fresh, fresh, fresh), ok},
		"hardening remains": {claims(ood, attest.SWHardeningNeeded, ood, ok, old, fresh),
			attest.SWHardeningNeeded},
		"revoked platform": {claims(attest.Revoked, attest.Revoked, ok, ok, fresh, fresh, fresh), attest.Revoked},
		"revoked module": {claims(attest.Revoked, ood, attest.Revoked, ok, fresh, fresh, fresh),
			attest.Revoked},
		"revoked QE": {claims(attest.Revoked, ood, ood, attest.Revoked, fresh, fresh, fresh),
			attest.Revoked},
		"not supported": {claims(attest.NotSupported, attest.NotSupported, ok, ok, fresh, fresh),
			attest.NotSupported},
		"relaunch, module after":  {claims(attest.TDRelaunchAdvised, ok, ood, ok, old, fresh), ok},
		"relaunch, module before": {claims(attest.TDRelaunchAdvised, ok, ood, ok, fresh, old), attest.TDRelaunchAdvised},
		"up to date stays":        {claims(ok, ok, ok, ok, old, old, old), ok},
		"configuration needs no grace": {claims(attest.ConfigurationNeeded, attest.ConfigurationNeeded, ok, ok, old),
			attest.ConfigurationNeeded},
	} {
		v := attest.Policy{TDX: &attest.TDXPolicy{}, TCBDateAfter: date(baseline)}.Check(test.claims)
		if v.TCBStatus != test.want || v.Accepted != (test.want == ok) {
			t.Errorf("%s: got %s, accepted %t", name, v.TCBStatus, v.Accepted)
		}
		if (len(v.Notes) > 0) != (v.TCBStatus != test.claims.TCBStatus) {
			t.Errorf("%s: notes %q", name, v.Notes)
		}
	}
}

// TestMerge: merging never improves a status, and Revoked and NotSupported win.
func TestMerge(t *testing.T) {
	platform := []attest.TCBStatus{attest.UpToDate, attest.SWHardeningNeeded, attest.ConfigurationNeeded,
		attest.ConfigurationAndSWHardeningNeeded, attest.OutOfDate, attest.OutOfDateConfigurationNeeded,
		attest.TDRelaunchAdvised, attest.TDRelaunchAdvisedConfigurationNeed, attest.Revoked, attest.NotSupported}
	want := map[attest.TCBStatus]attest.TCBStatus{
		attest.UpToDate: attest.OutOfDate, attest.SWHardeningNeeded: attest.OutOfDate,
		attest.ConfigurationNeeded:               attest.OutOfDateConfigurationNeeded,
		attest.ConfigurationAndSWHardeningNeeded: attest.OutOfDateConfigurationNeeded,
	}
	for _, s := range platform {
		for _, neutral := range []attest.TCBStatus{attest.UpToDate, ""} {
			if got := s.Merge(neutral); got != s {
				t.Errorf("%s with %q: %s", s, neutral, got)
			}
		}
		expected, changes := want[s]
		if !changes {
			expected = s
		}
		if got := s.Merge(attest.OutOfDate); got != expected {
			t.Errorf("%s with OutOfDate: %s, want %s", s, got, expected)
		}
		if got := s.Merge(attest.NotSupported); got != attest.NotSupported {
			t.Errorf("%s with NotSupported: %s", s, got)
		}
		if got := s.Merge(attest.Revoked); got != attest.Revoked && s != attest.NotSupported {
			t.Errorf("%s with Revoked: %s", s, got)
		}
	}
}

// TestNeverAccepted: whatever a policy lists, NotSupported is refused; whatever grace it gives, Revoked needs listing.
func TestNeverAccepted(t *testing.T) {
	halves := []attest.TCBStatus{attest.UpToDate, attest.OutOfDate, attest.Revoked, attest.NotSupported}
	rapid.Check(t, func(t *rapid.T) {
		c := sgxClaims(attest.OutOfDate)
		c.PlatformStatus = rapid.SampledFrom(halves).Draw(t, "platform")
		c.QEStatus = rapid.SampledFrom(halves).Draw(t, "QE")
		c.TCBStatus = c.PlatformStatus.Merge(c.QEStatus)
		listed := rapid.SliceOf(rapid.SampledFrom([]string{"OutOfDate", "NotSupported", "SWHardeningNeeded", "Revoked"})).
			Draw(t, "listed")
		policy := attest.Policy{SGX: &attest.SGXPolicy{}, AcceptedTCBStatuses: listed}
		policy.TCBDateAfter = rapid.SampledFrom([]time.Time{{}, date("2000-01-01"), date("2024-01-01")}).Draw(t, "grace")
		accepted := policy.Check(c).Accepted
		if accepted && c.TCBStatus == attest.NotSupported {
			t.Fatal("NotSupported accepted")
		}
		if accepted && c.TCBStatus == attest.Revoked && !strings.Contains(strings.Join(listed, " "), "Revoked") {
			t.Fatal("Revoked accepted without being listed")
		}
	})
}

func TestCheckReportData(t *testing.T) {
	c := &attest.Claims{}
	var hash [32]byte
	for i := range hash {
		hash[i] = byte(i)
	}
	copy(c.ReportData[:], hash[:])
	if r := attest.CheckReportHash(c, hash); r != nil {
		t.Error(r)
	}
	if r := attest.CheckReportData(c, c.ReportData); r != nil {
		t.Error(r)
	}
	for i := range c.ReportData {
		c.ReportData[i] ^= 1
		if r := attest.CheckReportHash(c, hash); r == nil || r.Field != "ReportData" {
			t.Errorf("byte %d differs: %v", i, r)
		}
		c.ReportData[i] ^= 1
	}
}

func TestSNPPolicyBits(t *testing.T) {
	last := uint(15)
	for _, name := range attest.SNPPolicyBitNames() {
		for _, form := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "_", ""), strings.ReplaceAll(name,
			"_", "-")} {
			bit, ok := attest.SNPPolicyBit(form)
			if !ok || bit < last || bit > 25 || bit == 17 {
				t.Errorf("%s: bit %d %t", form, bit, ok)
			}
			last = bit
		}
	}
	if _, ok := attest.SNPPolicyBit("ABI"); ok {
		t.Error("ABI is no bit")
	}
}
