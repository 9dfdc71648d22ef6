// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee"
)

// TestCollateralCommands takes collateral from the services to a machine without any.
func TestCollateralCommands(t *testing.T) {
	w := newWorld(t)
	era := w.write(t, "era.json", []byte(policyFor(workload())))
	var files []string
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv5} {
		request := softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}, Workload: workload()}
		quote, err := w.platform.Evidence(request)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, w.write(t, string(kind), []byte(hex.EncodeToString(quote))))
	}
	bundle := w.path("bundle.json")
	export := append([]string{"collateral", "export", "-o", bundle}, files...)
	if code, out, stderr := w.run(append(export, w.services()...)...); code != 0 || out != "" ||
		!strings.Contains(stderr, "Valid until ") {
		t.Fatalf("export: %d %s%s", code, out, stderr)
	}
	code, out, stderr := w.run("collateral", "show", bundle)
	for _, want := range []string{
		"sgx 53494D544545", "tdx 53494D544545", "PCK CRL", "root CRL", "expires first", "Valid until",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("show lacks %q: %d %s%s", want, code, out, stderr)
		}
	}
	// No service any more, and nothing fetched before: only the bundle helps, as a flag or imported.
	w.service.Close()
	if err := os.RemoveAll(w.path("cache")); err != nil {
		t.Fatal(err)
	}
	verify := append([]string{"evidence", "verify", files[0], "--era-config", era}, w.services()...)
	if code, _, stderr := w.run(append(verify, "--collateral", bundle)...); code != 0 {
		t.Errorf("--collateral: %s", stderr)
	}
	if code, _, stderr := w.run("collateral", "import", bundle); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := w.run(verify...); code != 0 || !strings.Contains(stderr, "Using imported collateral") {
		t.Errorf("imported: %s", stderr)
	}
	code, out, stderr = w.run("collateral", "show", "-o", "json")
	var shown []struct {
		Expired bool
		Content []struct{ Kind string }
	}
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || len(shown) != 1 || shown[0].Expired ||
		len(shown[0].Content) < 6 {
		t.Errorf("show: %v %s%s", err, out, stderr)
	}
}

// TestMachineConfiguration asks the service that sgx_default_qcnl.conf names.
func TestMachineConfiguration(t *testing.T) {
	w := newWorld(t)
	w.qcnl = w.path("qcnl.conf")
	quote := w.evidence(t, "quote", softtee.Request{Kind: softtee.SGXv3, Workload: workload()})
	verify := []string{"evidence", "verify", quote, "--root", w.path("roots.pem")}
	w.write(t, "qcnl.conf", []byte(`{"pccs_url": 1}`))
	if code, _, stderr := w.run(verify...); code != 1 || !strings.Contains(stderr, "qcnl.conf") {
		t.Errorf("bad file: %d %s", code, stderr)
	}
	w.write(t, "qcnl.conf", []byte("// the machine's\n"+`{"pccs_url": "`+w.service.URL+`/sgx/certification/v4/"}`))
	if code, out, stderr := w.run(verify...); code != 0 {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	// What was fetched is cached: the service may go.
	w.service.Close()
	if code, out, stderr := w.run(verify...); code != 0 {
		t.Errorf("from the cache: %d %s%s", code, out, stderr)
	}
}

// TestImportExpired: imported collateral is used while all of it is current, then dropped.
func TestImportExpired(t *testing.T) {
	w := newWorld(t)
	quote := w.evidence(t, "quote", softtee.Request{Kind: softtee.SGXv3, Workload: workload()})
	old := w.bundle(t, func(s *softtee.Settings) { s.Age = 60 * 24 * time.Hour })
	for range 2 { // the second import drops nothing, since it is the same file
		if code, _, stderr := w.run("collateral", "import", old); code != 0 || !strings.Contains(stderr, "expired at") {
			t.Fatalf("%d %s", code, stderr)
		}
	}
	fresh := w.bundle(t, func(s *softtee.Settings) { s.Age = time.Hour })
	if code, _, stderr := w.verify(t, quote); code != 0 || strings.Contains(stderr, "imported") {
		t.Errorf("used expired collateral: %s", stderr)
	}
	if code, _, stderr := w.run("collateral", "import", fresh); code != 0 {
		t.Fatal(stderr)
	}
	if _, out, _ := w.run("collateral", "show"); strings.Contains(out, "expired at") || !strings.Contains(out, "Valid until") {
		t.Errorf("kept expired collateral:\n%s", out)
	}
}

// TestImportNewest: of several imported bundles the one with the newest collateral decides, whatever the others say.
func TestImportNewest(t *testing.T) {
	w := newWorld(t)
	quote := w.evidence(t, "quote", softtee.Request{Kind: softtee.SGXv3, Workload: workload()})
	keep := func(change func(*softtee.Settings)) {
		if code, _, stderr := w.run("collateral", "import", w.bundle(t, change)); code != 0 {
			t.Fatal(stderr)
		}
	}
	for hours := range 8 {
		keep(func(s *softtee.Settings) { s.Age = time.Duration(hours+13) * time.Hour })
	}
	keep(func(s *softtee.Settings) { s.Age, s.Standard = time.Hour, s.Early }) // after a TCB recovery
	code, v, stderr := w.verify(t, quote)
	if code != 0 || v.TCBStatus != attest.OutOfDate || !strings.Contains(stderr, "Using imported collateral") {
		t.Errorf("%d %+v %s", code, v, stderr)
	}
	before := time.Now().Add(-12 * time.Hour).Format(time.RFC3339)
	if code, v, stderr = w.verify(t, quote, "--time", before); code != 0 || v.TCBStatus != attest.UpToDate {
		t.Errorf("before: %d %+v %s", code, v, stderr)
	}
}
