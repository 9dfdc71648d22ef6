// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest"
)

// TestUpdateKind is contract manifest §13.1.
func TestUpdateKind(t *testing.T) {
	for doc, want := range map[string]manifest.UpdateKind{
		`{}`: manifest.PackageUpdate,
		`{"Packages":{"a":{}},"Config":{"SealMode":"Disabled"}}`: manifest.PackageUpdate,
		`{"Packages":{"a":{}},"Marbles":{},"Users":null}`:        manifest.PackageUpdate,
		`{"Infrastructures":{"a":{}}}`:                           manifest.FullUpdate,
		`{"Marbles":{"a":{}}}`:                                   manifest.FullUpdate,
		`{"Users":{"a":{}}}`:                                     manifest.FullUpdate,
		`{"RecoveryKeys":{"a":""}}`:                              manifest.FullUpdate,
		`{"Roles":{"a":{}}}`:                                     manifest.FullUpdate,
		`{"Secrets":{"a":{}}}`:                                   manifest.FullUpdate,
		`{"TLS":{"a":{}}}`:                                       manifest.FullUpdate,
	} {
		if got := parse(t, doc).UpdateKind(); got != want {
			t.Errorf("%s: %v, want %v", doc, got, want)
		}
	}
}

// TestCheckPackageUpdate is contract manifest §13.2.
func TestCheckPackageUpdate(t *testing.T) {
	current := parse(t, edit(t, complete(t), "Packages|tdx", `{"TDX":{}}`, "Packages|open", `{"Debug":true}`)).
		WithSecurityVersions(map[string]uint{"frontend": 5, "gone": 1})
	tests := map[string]struct{ update, path, text string }{
		"raise":                  {`{"frontend":{"SecurityVersion":6}}`, "", ""},
		"equal (Q5)":             {`{"frontend":{"SecurityVersion":5}}`, "", ""},
		"unknown field":          {`{"frontend":{"SecurityVersion":5,"Foo":1}}`, "", ""},
		"without version so far": {`{"open":{"SecurityVersion":0}}`, "", ""},
		"no packages":            {`{}`, "$.Packages", "names no packages"},
		"unknown package":        {`{"fronted":{"SecurityVersion":6}}`, `$.Packages["fronted"]`, "no package"},
		"lower than effective":   {`{"frontend":{"SecurityVersion":4}}`, `$.Packages["frontend"].SecurityVersion`, "is 4, lower than the current 5"},
		"no version":             {`{"frontend":{}}`, `$.Packages["frontend"].SecurityVersion`, "needs a SecurityVersion"},
		"Debug":                  {`{"frontend":{"SecurityVersion":6,"Debug":true}}`, `$.Packages["frontend"].Debug`, "cannot change"},
		"UniqueID":               {`{"frontend":{"SecurityVersion":6,"UniqueID":"00"}}`, `$.Packages["frontend"].UniqueID`, "cannot change"},
		"SignerID":               {`{"frontend":{"SecurityVersion":6,"SignerID":"00"}}`, `$.Packages["frontend"].SignerID`, "cannot change"},
		"ProductID 0":            {`{"frontend":{"SecurityVersion":6,"ProductID":0}}`, `$.Packages["frontend"].ProductID`, "cannot change"},
		"statuses (Q3)":          {`{"frontend":{"SecurityVersion":6,"AcceptedTCBStatuses":["x"]}}`, `$.Packages["frontend"].AcceptedTCBStatuses`, "cannot change"},
		"UniqueID package (Q6)":  {`{"backend":{"SecurityVersion":6}}`, `$.Packages["backend"].SecurityVersion`, "identified by its UniqueID"},
		"TDX package":            {`{"tdx":{"SecurityVersion":6}}`, `$.Packages["tdx"].SecurityVersion`, "not for SGX"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			doc := `{"Packages":` + tc.update + `}`
			found := manifest.Locate([]byte(doc), manifest.CheckPackageUpdate(current, parse(t, doc)))
			switch {
			case tc.path == "" && len(found) > 0:
				t.Error(found)
			case tc.path != "" && (len(found) != 1 || found[0].Path != tc.path || !strings.Contains(found[0].Text, tc.text) || found[0].Line != 1):
				t.Errorf("want %q at %s, got %v", tc.text, tc.path, found)
			}
		})
	}
	withConfig := parse(t, `{"Packages":{"frontend":{"SecurityVersion":6}},"Config":{"SealMode":"Wrong"}}`)
	if found := manifest.CheckPackageUpdate(current, withConfig); len(found) != 1 || found[0].Path != "$.Config" {
		t.Errorf("Config (Q3): %v", found)
	}
	many := parse(t, `{"Packages":{"a":{},"b":{},"frontend":{"Debug":true,"UniqueID":"00"}}}`)
	if found := manifest.CheckPackageUpdate(current, many); len(found) != 5 {
		t.Errorf("want all 5 problems, got %v", found)
	}
}

func TestWithSecurityVersions(t *testing.T) {
	m := parse(t, complete(t))
	updated := m.WithSecurityVersions(map[string]uint{"frontend": 9})
	if *updated.Packages["frontend"].SecurityVersion != 9 || *m.Packages["frontend"].SecurityVersion != 3 {
		t.Error("not a copy with the new version")
	}
}

func TestRecovery(t *testing.T) {
	three := []string{"RecoveryKeys", `{"a":"@rsa2048@","b":"@other2048@","c":"x"}`}
	manifests := map[string]*manifest.Manifest{
		"none":       parse(t, edit(t, complete(t), "RecoveryKeys", "{}")),
		"one":        parse(t, complete(t)),
		"three":      parse(t, edit(t, complete(t), three...)),
		"three of 3": parse(t, edit(t, complete(t), append(three, "Config|RecoveryThreshold", "3")...)),
		"two of 3":   parse(t, edit(t, complete(t), append(three, "Config|RecoveryThreshold", "2")...)),
		"renamed":    parse(t, edit(t, complete(t), "RecoveryKeys", `{"rk2":"@rsa2048@"}`)),
	}
	for name, want := range map[string][2]int{"none": {0, 0}, "one": {1, 1}, "three": {3, 3}, "three of 3": {3, 3}, "two of 3": {2, 3}} {
		if threshold, n := manifests[name].RecoveryScheme(); threshold != want[0] || n != want[1] {
			t.Errorf("%s: %d of %d, want %v", name, threshold, n, want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"none", "none", false}, {"none", "one", true}, {"one", "one", false}, {"three", "three of 3", false},
		{"three", "two of 3", true}, {"one", "renamed", true}} {
		if got := manifest.RecoveryKeysChanged(manifests[tc.a], manifests[tc.b]); got != tc.want {
			t.Errorf("%s to %s: %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestSameDefinition(t *testing.T) {
	cert := manifest.Secret{Type: "cert-ecdsa", Size: 256, Shared: true}
	tests := []struct {
		name string
		o    manifest.Secret
		want bool
	}{
		{"itself", cert, true},
		{"default validity (Q4)", manifest.Secret{Type: "cert-ecdsa", Size: 256, Shared: true, ValidFor: 365}, true},
		{"another validity", manifest.Secret{Type: "cert-ecdsa", Size: 256, Shared: true, ValidFor: 30}, false},
		{"another template", manifest.Secret{Type: "cert-ecdsa", Size: 256, Shared: true, Cert: manifest.CertTemplate{IsCA: true}}, true},
		{"another size", manifest.Secret{Type: "cert-ecdsa", Size: 384, Shared: true}, false},
		{"another type", manifest.Secret{Type: "cert-rsa", Size: 256, Shared: true}, false},
		{"not shared", manifest.Secret{Type: "cert-ecdsa", Size: 256}, false},
		{"user-defined", manifest.Secret{Type: "cert-ecdsa", Size: 256, Shared: true, UserDefined: true}, false},
	}
	for _, tc := range tests {
		if got := cert.SameDefinition(tc.o); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestAccess(t *testing.T) {
	m := parse(t, edit(t, complete(t),
		"Users|bob", `{"Certificate":"@bob@","Roles":["w","r","b"]}`,
		"Roles|b", `{"ResourceType":"Marbles","ResourceNames":["web"],"Actions":["banMarble"]}`,
		"Users|carol", `{"Certificate":"@expired@","Roles":["fake"]}`,
		"Roles|w", `{"ResourceType":"Secrets","ResourceNames":["apiToken"],"Actions":["WRITEsecret"]}`,
		"Roles|r", `{"ResourceType":"Secrets","ResourceNames":["dbCert"],"Actions":["ReadSecret","RotateSecret"]}`,
		"Roles|fake", `{"ResourceType":"Secrets","ResourceNames":["x"],"Actions":["UpdateManifest"]}`,
		"Config|UpdateThreshold", "0"))
	for _, tc := range []struct {
		user, typ, action, name string
		want                    bool
	}{
		{"alice", "Manifest", "UpdateManifest", "", true},
		{"alice", "Packages", "UpdateSecurityVersion", "frontend", true},
		{"alice", "Packages", "UpdateSecurityVersion", "backend", false},
		{"bob", "Secrets", "WriteSecret", "apiToken", true},
		{"bob", "Secrets", "readsecret", "dbCert", true},
		{"bob", "Secrets", "ReadSecret", "apiToken", false},
		{"bob", "Manifest", "UpdateManifest", "", false},
		{"bob", "Secrets", "ReadSecret", "", false},
		{"bob", "Secrets", "RotateSecret", "dbCert", true},
		{"bob", "Secrets", "RotateSecret", "apiToken", false},
		{"bob", "Marbles", "BanMarble", "web", true},
		{"bob", "Marbles", "BanMarble", "db", false},
		{"alice", "Marbles", "BanMarble", "web", false},
		{"carol", "Manifest", "UpdateManifest", "", false},
		{"nobody", "Manifest", "UpdateManifest", "", false},
	} {
		if got := m.Can(tc.user, tc.typ, tc.action, tc.name); got != tc.want {
			t.Errorf("Can(%+v) = %v", tc, got)
		}
	}
	if got := m.Updaters(); !cmp.Equal(got, []string{"alice"}) || m.RequiredAcknowledgments() != 1 {
		t.Errorf("updaters %v, required %d", got, m.RequiredAcknowledgments())
	}
	block, _ := pem.Decode([]byte(pemFile(t, "bob")))
	if got := m.UserByDER(block.Bytes); got != "bob" {
		t.Errorf("bob's certificate is of %q", got)
	}
	if got := m.UserByDER([]byte("x")); got != "" {
		t.Errorf("no certificate is of %q", got)
	}
	if der, err := m.Users["bob"].DER(); err != nil || !cmp.Equal(der, block.Bytes) {
		t.Errorf("DER: %v", err)
	}
	if !m.Feature("monotoniccounter") || m.Feature("SignQuoteEndpoint") {
		t.Error("features")
	}
	if m.SealMode() != "ProductKey" || (&manifest.Manifest{}).SealMode() != "ProductKey" {
		t.Error("seal mode")
	}
}

func TestAllowsName(t *testing.T) {
	limited := manifest.Marble{AllowedNames: []string{"db.ns.svc", "*.db.ns.svc", "10.0.0.1", "2001:db8::1"}}
	for name, want := range map[string]bool{
		"db.ns.svc": true, "DB.ns.SVC": true, "a.db.ns.svc": true, "a.b.db.ns.svc": false, ".db.ns.svc": false, "*.db.ns.svc": false,
		"xdb.ns.svc": false, "10.0.0.1": true, "::ffff:10.0.0.1": true, "10.0.0.2": false, "2001:0db8::0001": true, "": false,
	} {
		if got := limited.AllowsName(name); got != want {
			t.Errorf("AllowsName(%q) = %v", name, got)
		}
	}
	if !(manifest.Marble{}).AllowsName("anything") {
		t.Error("a Marble without AllowedNames is limited")
	}
	if (manifest.Marble{AllowedNames: []string{}}).AllowsName("anything") {
		t.Error("an empty list allows a name")
	}
}

func TestPolicy(t *testing.T) {
	m := parse(t, edit(t, complete(t),
		"Packages|tdx", `{"TDX":{"MRTD":"aa","RTMR3":"bb"},"MinimumTCBEvaluationDataNumber":17,"TCBDateAfter":"2025-01-02T00:00:00Z"}`,
		"Packages|snp", `{"SNP":{"Measurement":"cc","GuestSVN":2,"Policy":{"SMT":false},"MinimumTCB":{"SNP":3,"FMC":1},"VMPL":0}}`,
		"Packages|any", `{"Debug":true}`,
		"Infrastructures", `{"b":{"Machines":[{"PPID":"AB"},{"ChipID":"CD"}]},"a":{"Machines":[{"PPID":"ab"}]},"c":{}}`))
	machines := []attest.Machine{{PPID: "ab"}, {ChipID: "cd"}}
	standard := []string{"SWHardeningNeeded"}
	svn, zero := uint32(2), uint32(0)
	product, version := uint64(43), uint(3)
	want := map[string]attest.Policy{
		"backend": {SGX: &attest.SGXPolicy{UniqueID: m.Packages["backend"].UniqueID}, AcceptedTCBStatuses: standard},
		"frontend": {SGX: &attest.SGXPolicy{SignerID: m.Packages["frontend"].SignerID, ProductID: &product, SecurityVersion: &version},
			AcceptedTCBStatuses: []string{"UpToDate", "SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"},
			AcceptedAdvisories:  []string{"INTEL-SA-00615"}},
		"tdx": {TDX: &attest.TDXPolicy{MRTD: "aa", RTMR: [4]string{3: "bb"}}, AcceptedTCBStatuses: standard,
			MinimumTCBEvaluationDataNumber: 17, TCBDateAfter: time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)},
		"snp": {SNP: &attest.SNPPolicy{Measurement: "cc", GuestSVN: &svn, Policy: map[string]bool{"SMT": false},
			MinimumTCB: &attest.SNPTCB{SNP: 3, FMC: 1}, VMPL: &zero}, AcceptedTCBStatuses: standard},
		"any": {SGX: &attest.SGXPolicy{}, Debug: true, AcceptedTCBStatuses: standard},
	}
	for name, policy := range want {
		if diff := cmp.Diff(policy, m.Packages[name].Policy()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		policy.Machines = machines
		got, ok := m.Policy(name)
		if diff := cmp.Diff(policy, got); diff != "" || !ok {
			t.Errorf("%s with machines: %s", name, diff)
		}
	}
	if _, ok := m.Policy("none"); ok {
		t.Error("a policy of no package")
	}
	if got := parse(t, complete(t)).Machines(); got != nil {
		t.Errorf("machines without a list: %v", got)
	}
}

func TestDiff(t *testing.T) {
	before := parse(t, complete(t))
	after := parse(t, edit(t, complete(t),
		"Packages|frontend|SecurityVersion", "4", "Packages|frontend|AcceptedAdvisories", `["INTEL-SA-1","INTEL-SA-00615"]`,
		"Packages|backend|ProductID", "7", "Packages|new", "{}",
		"Marbles|web", "-", "Marbles|db|MaxActivations", "2", "Marbles|db|Parameters|Env|TOKEN", `"x"`,
		"Marbles|db|Parameters|Files|/new", `"x"`, "Marbles|db|Parameters|Argv", "-",
		"Secrets|dbCert|Cert|DNSNames", `["db"]`, "Secrets|dbCert|Cert|NotAfter", `"2030-01-01T00:00:00Z"`,
		"Users|alice|Certificate", `"@bob@"`, "Users|alice|Roles", `["mnf","pkg"]`,
		"RecoveryKeys|rk1", `"@other2048@"`, "TLS|dbTag|Incoming", "[]", "Config|SealMode", `"Disabled"`, "Config|RotateRootSecret", "true"))
	want := []manifest.Change{
		change(`$.Packages["backend"].ProductID`, manifest.Added, `package "backend": ProductID is 7, was absent`),
		change(`$.Packages["frontend"].AcceptedAdvisories`, manifest.Changed, `package "frontend": AcceptedAdvisories gains "INTEL-SA-1"`),
		change(`$.Packages["frontend"].SecurityVersion`, manifest.Changed, `package "frontend": SecurityVersion is 4, was 3`),
		change(`$.Packages["new"]`, manifest.Added, `package "new" added`),
		change(`$.Marbles["db"].MaxActivations`, manifest.Changed, `Marble "db": MaxActivations is 2, was 1`),
		change(`$.Marbles["db"].Parameters.Argv`, manifest.Changed, `Marble "db": Parameters.Argv loses "./db", "--serve"`),
		change(`$.Marbles["db"].Parameters.Env["TOKEN"].Data`, manifest.Changed, `Marble "db": Parameters.Env.TOKEN.Data is 1 bytes, was 30 bytes`),
		change(`$.Marbles["db"].Parameters.Files["/new"]`, manifest.Added, `Marble "db": Parameters.Files./new added`),
		change(`$.Marbles["web"]`, manifest.Removed, `Marble "web" removed`),
		change(`$.Secrets["dbCert"].Cert.DNSNames`, manifest.Changed, `secret "dbCert": Cert.DNSNames loses "db.ns.svc"`),
		change(`$.Secrets["dbCert"].Cert.NotAfter`, manifest.Changed, `secret "dbCert": Cert.NotAfter is 2030-01-01T00:00:00Z, was 0001-01-01T00:00:00Z`),
		change(`$.Users["alice"].Certificate`, manifest.Changed, `user "alice": Certificate replaced`),
		change(`$.Users["alice"].Roles`, manifest.Changed, `user "alice": Roles loses "sec"`),
		change(`$.RecoveryKeys["rk1"]`, manifest.Changed, `recovery key "rk1" replaced`),
		change(`$.TLS["dbTag"].Incoming`, manifest.Changed, `TLS tag "dbTag": Incoming replaced`),
		change(`$.Config.RotateRootSecret`, manifest.Changed, `Config: RotateRootSecret is true, was false`),
		change(`$.Config.SealMode`, manifest.Changed, `Config: SealMode is "Disabled", was "ProductKey"`),
	}
	if diff := cmp.Diff(want, manifest.Diff(before, after)); diff != "" {
		t.Error(diff)
	}
	back := manifest.Diff(after, before)
	if len(back) != len(want) || back[3].Kind != manifest.Removed || back[8].Kind != manifest.Added {
		t.Errorf("backwards: %v", back)
	}
}

func change(path string, kind manifest.ChangeKind, text string) manifest.Change {
	return manifest.Change{Path: path, Kind: kind, Text: text}
}
