// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/marblerun/marblerun/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// expand replaces @name@ by the PEM of testdata/pem/name.pem, as the inside of a JSON string.
func expand(t testing.TB, doc string) string {
	t.Helper()
	return regexp.MustCompile(`@\w[\w-]*@`).ReplaceAllStringFunc(doc, func(s string) string {
		quoted, err := json.Marshal(pemFile(t, strings.Trim(s, "@")))
		if err != nil {
			t.Fatal(err)
		}
		return string(quoted[1 : len(quoted)-1])
	})
}

func pemFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "pem", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// complete is the example of contract manifest §2.
func complete(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("testdata/complete.json")
	if err != nil {
		t.Fatal(err)
	}
	return expand(t, string(data))
}

// parse parses a document that must parse.
func parse(t testing.TB, doc string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// problems are those of Parse, or of Check and DryRun.
func problems(t testing.TB, doc string) manifest.Problems {
	t.Helper()
	m, err := manifest.Parse([]byte(doc))
	if err != nil {
		return err.(manifest.Problems)
	}
	found := manifest.Check([]byte(doc), m, func(string) string { return "" })
	if len(found.Errors()) > 0 {
		return found
	}
	return append(found, manifest.Locate([]byte(doc), m.DryRun(t.Context(), nil))...)
}

// edit changes a JSON document: each edit is a path with / between the steps, and a JSON value; "-" deletes.
func edit(t testing.TB, doc string, edits ...string) string {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal([]byte(doc), &root); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(edits); i += 2 {
		steps, at := strings.Split(edits[i], "|"), root
		for _, s := range steps[:len(steps)-1] {
			next, ok := at[s].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[s] = next
			}
			at = next
		}
		last := steps[len(steps)-1]
		if edits[i+1] == "-" {
			delete(at, last)
		} else {
			at[last] = json.RawMessage(expand(t, edits[i+1]))
		}
	}
	out, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestGolden checks manifests beside the problems they have, in testdata/check.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil || len(archive.Files) != 2 {
				t.Fatal("want the files manifest.json and problems", err)
			}
			var b strings.Builder
			for _, p := range problems(t, expand(t, string(archive.Files[0].Data))) {
				b.WriteString(p.String() + "\n")
			}
			if *update {
				archive.Files[1].Data = []byte(b.String())
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRejects has a row for each item of contract manifest §15, made from the complete example.
func TestRejects(t *testing.T) {
	tests := []struct {
		item string
		edit []string
		path string // of one of the errors
		text string // in it
	}{
		{"no packages", []string{"Packages", "{}"}, `$.Packages`, "no packages"},
		{"no marbles", []string{"Marbles", "-"}, `$.Marbles`, "no Marbles"},
		{"unknown marble package", []string{"Marbles|web|Package", `"fronted"`}, `$.Marbles["web"].Package`, `"fronted"`},
		{"marble without package", []string{"Marbles|web|Package", "-"}, `$.Marbles["web"].Package`, `""`},
		{"incomplete identity", []string{"Packages|frontend|ProductID", "-"}, `$.Packages["frontend"]`, "ProductID missing"},
		{"empty identity", []string{"Packages|backend", "{}"}, `$.Packages["backend"]`, "SignerID, ProductID, SecurityVersion"},
		{"ambiguous identity", []string{"Packages|backend|SecurityVersion", "0"}, `$.Packages["backend"]`, "UniqueID besides"},
		{"unknown marble TLS tag", []string{"Marbles|db|TLS", `["dbTags"]`}, `$.Marbles["db"].TLS[0]`, "dbTags"},
		{"Incoming without Port", []string{"TLS|dbTag|Incoming", `[{}]`}, `$.TLS["dbTag"].Incoming[0].Port`, "needs a Port"},
		{"Incoming Cert undefined", []string{"TLS|x|Incoming", `[{"Port":"1","Cert":"no","DisableClientAuth":true}]`},
			`$.TLS["x"].Incoming[0].Cert`, `no secret "no"`},
		{"Incoming Cert without DisableClientAuth", []string{"TLS|x|Incoming", `[{"Port":"1","Cert":"dbCert"}]`},
			`$.TLS["x"].Incoming[0].Cert`, "requires DisableClientAuth"},
		{"DisableClientAuth without Cert", []string{"TLS|x|Incoming", `[{"Port":"1","DisableClientAuth":true}]`},
			`$.TLS["x"].Incoming[0].DisableClientAuth`, "certificate of one's own"},
		{"Outgoing without Addr", []string{"TLS|x|Outgoing", `[{"Port":"1"}]`}, `$.TLS["x"].Outgoing[0].Addr`, "Addr"},
		{"Outgoing without Port", []string{"TLS|x|Outgoing", `[{"Addr":"a"}]`}, `$.TLS["x"].Outgoing[0].Port`, "Port"},
		{"user without certificate", []string{"Users|bob", `{}`}, `$.Users["bob"].Certificate`, "needs a certificate"},
		{"unparsable user certificate", []string{"Users|bob|Certificate", `"@rsa2048@"`}, `$.Users["bob"].Certificate`, "not a certificate"},
		{"user certificate not PEM", []string{"Users|bob|Certificate", `"x"`}, `$.Users["bob"].Certificate`, "not PEM"},
		{"user role undefined", []string{"Users|alice|Roles", `["mnf","no"]`}, `$.Users["alice"].Roles[1]`, `"no"`},
		{"duplicate user PEM", []string{"Users|bob|Certificate", `"@alice@"`}, `$.Users["bob"].Certificate`, `user "alice"`},
		{"duplicate user DER (Q17)", []string{"Users|bob|Certificate", `"@alice-foo@"`}, `$.Users["bob"].Certificate`, `user "alice"`},
		{"unknown resource type", []string{"Roles|x|ResourceType", `"Secret"`}, `$.Roles["x"].ResourceType`, `"Secret"`},
		{"resource type is case-sensitive", []string{"Roles|x|ResourceType", `"secrets"`}, `$.Roles["x"].ResourceType`, `"secrets"`},
		{"undefined role resource", []string{"Roles|pkg|ResourceNames", `["x"]`}, `$.Roles["pkg"].ResourceNames[0]`, "not defined in Packages"},
		{"unknown action", []string{"Roles|mnf|Actions", `["ReadSecret"]`, "Config", "-"}, `$.Roles["mnf"].Actions[0]`, "unknown action"},
		{"WriteSecret on non-user-defined", []string{"Roles|sec|ResourceNames", `["dbCert"]`}, `$.Roles["sec"].ResourceNames[0]`, "WriteSecret needs"},
		{"ReadSecret on non-shared generated", []string{"Roles|x", `{"ResourceType":"Secrets","ResourceNames":["dbKey"],"Actions":["readsecret"]}`},
			`$.Roles["x"].ResourceNames[0]`, "ReadSecret needs"},
		{"RotateSecret on user-defined", []string{"Roles|x", `{"ResourceType":"Secrets","ResourceNames":["dbCert","apiToken"],"Actions":["ROTATEsecret"]}`},
			`$.Roles["x"].ResourceNames[1]`, "RotateSecret needs a shared secret"},
		{"RotateSecret on non-shared", []string{"Roles|x", `{"ResourceType":"Secrets","ResourceNames":["dbKey"],"Actions":["RotateSecret"]}`},
			`$.Roles["x"].ResourceNames[0]`, "RotateSecret needs a shared secret"},
		{"BanMarble on an unknown type", []string{"Roles|x", `{"ResourceType":"Marbles","ResourceNames":["web","dbb"],"Actions":["banmarble"]}`},
			`$.Roles["x"].ResourceNames[1]`, "not defined in Marbles"},
		{"BanMarble on secrets", []string{"Roles|x", `{"ResourceType":"Secrets","ResourceNames":["dbCert"],"Actions":["BanMarble"]}`},
			`$.Roles["x"].Actions[0]`, "unknown action"},
		{"RotateSecret on Marbles", []string{"Roles|x", `{"ResourceType":"Marbles","ResourceNames":["db"],"Actions":["RotateSecret"]}`},
			`$.Roles["x"].Actions[0]`, "unknown action"},
		{"Manifest role with names", []string{"Roles|mnf|ResourceNames", `["x"]`}, `$.Roles["mnf"].ResourceNames`, "must be empty"},
		{"unknown secret type", []string{"Secrets|x|Type", `"Plain"`}, `$.Secrets["x"].Type`, `"Plain"`},
		{"ValidFor and NotAfter", []string{"Secrets|dbCert|Cert|NotAfter", `"2040-01-02T03:04:05Z"`}, `$.Secrets["dbCert"].ValidFor`, "both set"},
		{"generated plain", []string{"Secrets|x", `{"Type":"plain"}`}, `$.Secrets["x"]`, "cannot be generated"},
		{"generated shared plain", []string{"Secrets|x", `{"Type":"plain","Shared":true}`}, `$.Secrets["x"]`, "cannot be generated"},
		{"size: no symmetric key", []string{"Secrets|x", `{"Type":"symmetric-key"}`}, `$.Secrets["x"].Size`, "multiple of 8"},
		{"size: symmetric key not of bytes", []string{"Secrets|x", `{"Type":"symmetric-key","Size":127}`}, `$.Secrets["x"].Size`, "multiple of 8"},
		{"size: derived key too large", []string{"Secrets|x", `{"Type":"symmetric-key","Size":65288}`}, `$.Secrets["x"].Size`, "at most 65280"},
		{"size: shared key too large", []string{"Secrets|x", `{"Type":"symmetric-key","Shared":true,"Size":8388616}`}, `$.Secrets["x"].Size`, "at most 8388608"},
		{"size: RSA 512", []string{"Secrets|x", `{"Type":"cert-rsa","Size":512}`}, `$.Secrets["x"].Size`, "2048 to 8192"},
		{"size: RSA 1024 (Q18)", []string{"Secrets|x", `{"Type":"cert-rsa","Size":1024}`}, `$.Secrets["x"].Size`, "2048 to 8192"},
		{"size: RSA 8200", []string{"Secrets|x", `{"Type":"cert-rsa","Size":8200}`}, `$.Secrets["x"].Size`, "2048 to 8192"},
		{"size: ECDSA 255", []string{"Secrets|x", `{"Type":"cert-ecdsa","Size":255}`}, `$.Secrets["x"].Size`, "224, 256, 384 or 521"},
		{"size: Ed25519 with one", []string{"Secrets|x", `{"Type":"cert-ed25519","Size":256}`}, `$.Secrets["x"].Size`, "left out"},
		{"bad Encoding", []string{"Marbles|db|Parameters|Env|A", `{"Data":"x","Encoding":"utf8"}`}, `$.Marbles["db"].Parameters.Env["A"]`, `Encoding "utf8"`},
		{"undecodable base64", []string{"Marbles|db|Parameters|Env|A", `{"Data":"Zm9","Encoding":"base64"}`}, `$.Marbles["db"].Parameters.Env["A"]`, "not base64"},
		{"undecodable hex", []string{"Marbles|db|Parameters|Files|A", `{"Data":"0g","Encoding":"HEX"}`}, `$.Marbles["db"].Parameters.Files["A"]`, "not hex"},
		{"NUL in Env", []string{"Marbles|db|Parameters|Env|A", `"a\u0000b"`}, `$.Marbles["db"].Parameters.Env["A"]`, "NUL"},
		{"NUL in Env without templates", []string{"Marbles|db|Parameters|Env|A", `{"Data":"AA==","Encoding":"base64","NoTemplates":true}`},
			`$.Marbles["db"].Parameters.Env["A"]`, "NUL"},
		{"template syntax", []string{"Marbles|db|Parameters|Files|A", `"{{ if }}"`}, `$.Marbles["db"].Parameters.Files["A"]`, "missing value for if"},
		{"template function of the other kind", []string{"Marbles|db|Parameters|Env|A", `"{{ raw .Secrets.dbKey }}"`}, `$.Marbles["db"].Parameters.Env["A"]`, `"raw" not defined`},
		{"template pem of a whole secret", []string{"Marbles|db|Parameters|Env|A", `"{{ pem .Secrets.dbCert }}"`}, `$.Marbles["db"].Parameters.Env["A"]`, "pem needs"},
		{"template string of a key", []string{"Marbles|db|Parameters|Env|A", `"{{ string .Secrets.dbKey }}"`}, `$.Marbles["db"].Parameters.Env["A"]`, "type plain"},
		{"template with missing secret", []string{"Marbles|db|Parameters|Files|A", `"{{ raw .Secrets.nope }}"`}, `$.Marbles["db"].Parameters.Files["A"]`, `"nope", which is not defined`},
		{"template printing a missing secret (Q7)", []string{"Marbles|db|Parameters|Files|A", `"{{ .Secrets.nope }}"`}, `$.Marbles["db"].Parameters.Files["A"]`, `"nope", which is not defined`},
		{"template Previous.MarbleRun", []string{"Marbles|db|Parameters|Files|A", `"{{ pem .Previous.MarbleRun.RootCA.Cert }}"`}, `$.Marbles["db"].Parameters.Files["A"]`, "no .Previous.MarbleRun"},
		{"unknown SealMode", []string{"Config|SealMode", `"productkey"`}, `$.Config.SealMode`, "productkey"},
		{"unknown feature gate", []string{"Config|FeatureGates", `["X"]`}, `$.Config.FeatureGates[0]`, `"X"`},
		{"AzureHSMSealing without environment", []string{"Config|FeatureGates", `["azurehsmsealing"]`}, `$.Config.FeatureGates`, "EDG_AZURE_CLIENT_SECRET"},
		{"UpdateThreshold too high", []string{"Config|UpdateThreshold", "2"}, `$.Config.UpdateThreshold`, "1 users can"},
		{"UpdateThreshold counts users with the action (Q10)", []string{"Roles|mnf|Actions", "[]"}, `$.Config.UpdateThreshold`, "0 users can"},
		{"RecoveryThreshold 1", []string{"Config|RecoveryThreshold", "1"}, `$.Config.RecoveryThreshold`, "threshold of 1"},
		{"RecoveryThreshold too high", []string{"Config|RecoveryThreshold", "2"}, `$.Config.RecoveryThreshold`, "1 recovery keys"},
		{"RecoveryThreshold without keys", []string{"RecoveryKeys", "{}", "Config|RecoveryThreshold", "2"}, `$.Config.RecoveryThreshold`, "0 recovery keys"},
		{"recovery key not PEM", []string{"RecoveryKeys|x", `"x"`}, `$.RecoveryKeys["x"]`, "not PEM"},
		{"recovery key PKCS#1", []string{"RecoveryKeys|x", `"@pkcs1@"`}, `$.RecoveryKeys["x"]`, `"RSA PUBLIC KEY"`},
		{"recovery key certificate", []string{"RecoveryKeys|x", `"@alice@"`}, `$.RecoveryKeys["x"]`, `"CERTIFICATE"`},
		{"recovery key EC", []string{"RecoveryKeys|x", `"@ec@"`}, `$.RecoveryKeys["x"]`, "not an RSA key"},
		{"recovery key of 1024 bits (Q18)", []string{"RecoveryKeys|x", `"@rsa1024@"`}, `$.RecoveryKeys["x"]`, "1024 bits"},

		{"cert: MaxPathLen without IsCA", []string{"Secrets|dbCert|Cert|MaxPathLen", "1"}, `$.Secrets["dbCert"].Cert.MaxPathLen`, "for a CA"},
		{"cert: RSA signature", []string{"Secrets|dbCert|Cert|SignatureAlgorithm", "4"}, `$.Secrets["dbCert"].Cert.SignatureAlgorithm`, "ECDSA"},
		{"cert: unknown ExtKeyUsage", []string{"Secrets|dbCert|Cert|ExtKeyUsage", "[77]"}, `$.Secrets["dbCert"].Cert`, "extended key usage"},
		{"cert: name not ASCII", []string{"Secrets|dbCert|Cert|DNSNames", `["dä"]`}, `$.Secrets["dbCert"].Cert`, "IA5String"},
		{"cert: null in a list", []string{"Secrets|dbCert|Cert|URIs", `[null]`}, `$.Secrets["dbCert"].Cert`, "null"},
		{"cert: null range", []string{"Secrets|dbCert|Cert|PermittedIPRanges", `[null]`}, `$.Secrets["dbCert"].Cert`, "null"},
		{"cert: raw subject", []string{"Secrets|dbCert|Cert|RawSubject", `"MAA="`}, `$.Secrets["dbCert"].Cert.RawSubject`, "unchecked"},
		{"cert: forged marble type", []string{"Secrets|dbCert|Cert|ExtraExtensions", `[{"Id":[1,2,3],"Value":"AA=="},{"Id":[1,3,9903,2,1],"Value":"ZGI="}]`},
			`$.Secrets["dbCert"].Cert.ExtraExtensions[1]`, "forge"},
		{"cert: the root's name", []string{"Secrets|dbCert|Cert|Subject|CommonName", `"MarbleRun Coordinator"`},
			`$.Secrets["dbCert"].Cert.Subject.CommonName`, "reserved"},
		{"cert: the issuer's name", []string{"Secrets|dbCert|Cert|Subject",
			`{"ExtraNames":[{"Type":[2,5,4,3],"Value":"MarbleRun Coordinator - Intermediate CA"}]}`},
			`$.Secrets["dbCert"].Cert.Subject`, "name of the Coordinator"},
		{"cert: number in a name", []string{"Secrets|dbCert|Cert|Subject", `{"ExtraNames":[{"Type":[2,5,4,3],"Value":1.5}]}`}, `$.Secrets["dbCert"].Cert`, "no certificate"},
		{"cert: valid for ages", []string{"Secrets|dbCert|ValidFor", "3000000"}, `$.Secrets["dbCert"].ValidFor`, "2000000"},
		{"key work", []string{"Secrets|a", `{"Type":"cert-rsa","Size":8192}`, "Secrets|b", `{"Type":"cert-rsa","Size":8192}`}, `$.Secrets`, "8193 units"},

		{"two kinds of TEE", []string{"Packages|backend|TDX|MRTD", hexOf(48)}, `$.Packages["backend"]`, "one kind"},
		{"TDX and SNP", []string{"Packages|x", `{"TDX":{},"SNP":{}}`}, `$.Packages["x"]`, "one kind"},
		{"TDX without MRTD", []string{"Packages|backend", `{"TDX":{"RTMR0":` + hexOf(48) + `}}`}, `$.Packages["backend"].TDX`, "MRTD missing"},
		{"TDX of zeros", []string{"Packages|backend", `{"TDX":{"MRTD":"` + strings.Repeat("0", 96) + `"}}`}, `$.Packages["backend"].TDX.MRTD`, "zeros"},
		{"TDX short RTMR", []string{"Packages|x", `{"TDX":{"RTMR3":` + hexOf(47) + `}}`}, `$.Packages["x"].TDX.RTMR3`, "48 bytes"},
		{"SNP without measurement", []string{"Packages|backend", `{"SNP":{"IDKeyDigest":` + hexOf(48) + `}}`}, `$.Packages["backend"].SNP`, "Measurement missing"},
		{"SNP ID key of zeros", []string{"Packages|backend", `{"SNP":{"GuestSVN":1,"IDKeyDigest":"` + strings.Repeat("0", 96) + `"}}`},
			`$.Packages["backend"].SNP.IDKeyDigest`, "zeros"},
		{"SNP unknown policy bit", []string{"Packages|x|SNP|Policy", `{"SMTT":true}`}, `$.Packages["x"].SNP.Policy["SMTT"]`, "SMTT"},
		{"SNP debug bit", []string{"Packages|x|SNP|Policy", `{"debug":true}`}, `$.Packages["x"].SNP.Policy["debug"]`, "debug bit"},
		{"SNP not hex", []string{"Packages|x|SNP|HostData", `"zz"`}, `$.Packages["x"].SNP.HostData`, "32 bytes"},
		{"SNP VMPL", []string{"Packages|x|SNP|VMPL", `4`}, `$.Packages["x"].SNP.VMPL`, "highest is 3"},
		{"empty machine list", []string{"Infrastructures|x|Machines", `[]`}, `$.Infrastructures["x"].Machines`, "allow none"},
		{"machine without id", []string{"Infrastructures|x|Machines", `[{}]`}, `$.Infrastructures["x"].Machines[0]`, "no machine"},
		{"machine with bad id", []string{"Infrastructures|x|Machines", `[{"ChipID":"00"}]`}, `$.Infrastructures["x"].Machines[0].ChipID`, "64 or 8 bytes"},
		{"allowed name", []string{"Marbles|db|AllowedNames", `["a","b c"]`}, `$.Marbles["db"].AllowedNames[1]`, "neither"},
	}
	for _, tc := range tests {
		t.Run(tc.item, func(t *testing.T) {
			found := problems(t, edit(t, complete(t), tc.edit...)).Errors()
			if !slices.ContainsFunc(found, func(p manifest.Problem) bool {
				return p.Path == tc.path && strings.Contains(p.Text, tc.text) && p.Line > 0
			}) {
				t.Errorf("no error at %s containing %q in:\n%v", tc.path, tc.text, found)
			}
		})
	}
}

func hexOf(n int) string { return `"` + strings.Repeat("aB", n) + `"` }

// TestAccepts has what must be accepted (contract manifest §15 and the details of the other sections).
func TestAccepts(t *testing.T) {
	tests := []struct {
		item    string
		edit    []string
		warning string // in one of the warnings; "" = none at all
	}{
		{"complete example", nil, ""},
		{"unknown fields", []string{"Packages|frontend|SecruityVersion", "1"}, `unknown field "SecruityVersion"`},
		{"unreferenced incomplete package", []string{"Packages|x", `{}`, "Packages|y", `{"UniqueID":"00","ProductID":0}`}, "never match"},
		{"incomplete debug package", []string{"Packages|backend", `{"Debug":true}`}, "identity is incomplete"},
		{"ambiguous debug package", []string{"Packages|backend|Debug", "true", "Packages|backend|ProductID", "0"}, "UniqueID besides"},
		{"debug TDX package", []string{"Packages|backend", `{"Debug":true,"TDX":{}}`}, "MRTD missing"},
		{"user without roles", []string{"Users|bob", `{"Certificate":"@bob@"}`}, ""},
		{"expired user certificate", []string{"Users|bob", `{"Certificate":"@expired@"}`}, ""},
		{"user certificate with another label", []string{"Users|alice|Certificate", `"@alice-foo@"`}, ""},
		{"unused tag, role and secret", []string{"TLS|x", `{}`, "Roles|x", `{"ResourceType":"Packages"}`, "Secrets|x", `{"Type":"cert-ed25519"}`}, ""},
		{"actions ignore case", []string{"Roles|mnf|Actions", `["updatemanifest"]`}, ""},
		{"feature gates ignore case", []string{"Config|FeatureGates", `["signquoteENDPOINT"]`}, ""},
		{"null sections", []string{"TLS", "null", "Marbles|db|TLS", "null", "Config", "null"}, ""},
		{"encodings ignore case", []string{"Marbles|db|Parameters|Files|x", `{"Data":"Zg==","Encoding":"Base64"}`}, ""},
		{"NUL in a file", []string{"Marbles|db|Parameters|Files|x", `"a\u0000"`}, ""},
		{"infrastructures", []string{"Infrastructures|Azure", `{"CPUSVN":[1,255],"QESVN":2,"RootCA":"AAAA"}`}, ""},
		{"machines", []string{"Infrastructures|x|Machines", `[{"PPID":` + hexOf(16) + `},{"ChipID":` + hexOf(64) + `},{"ChipID":` + hexOf(8) + `}]`}, ""},
		{"empty tags (Q12)", []string{"TLS|dbTag", "{}"}, "no transparent TLS"},
		{"Port is free text", []string{"TLS|x|Incoming", `[{"Port":"http"}]`}, "not a port"},
		{"unknown TCB status", []string{"Packages|frontend|AcceptedTCBStatuses", `["SWHardeningNeded"]`}, "will never match"},
		{"largest derived key", []string{"Secrets|x", `{"Type":"symmetric-key","Size":65280}`}, ""},
		{"largest shared key", []string{"Secrets|x", `{"Type":"symmetric-key","Size":8388608,"Shared":true}`}, ""},
		{"user-defined key of no size", []string{"Secrets|x", `{"Type":"symmetric-key","UserDefined":true}`}, "can be uploaded"},
		{"user-defined certificate of any size", []string{"Secrets|x", `{"Type":"cert-rsa","Size":5,"UserDefined":true,"Cert":{"MaxPathLen":5}}`}, ""},
		{"RSA of 2048, 3072 and 4096", []string{"Secrets|x", `{"Type":"cert-rsa","Size":2048}`, "Secrets|y", `{"Type":"cert-rsa","Size":3072}`, "Secrets|z", `{"Type":"cert-rsa","Size":4096}`}, ""},
		{"P-224 and P-521", []string{"Secrets|x", `{"Type":"cert-ecdsa","Size":224}`, "Secrets|y", `{"Type":"cert-ecdsa","Size":521}`}, ""},
		{"Private and Public of a secret", []string{"Secrets|dbKey|Private", `"AAAA"`, "Secrets|dbKey|public", `"AAAA"`}, ""},
		{"a full certificate template", []string{"Secrets|x", `{"Type":"cert-ecdsa","Size":384,"Cert":{
			"Subject":{"CommonName":"c","Country":["DE"],"ExtraNames":[{"Type":[2,5,4,3],"Value":"x"}],"SerialNumber":"1"},
			"NotAfter":"2050-01-01T00:00:00Z","DNSNames":[],"IPAddresses":["10.0.0.1","::1"],"URIs":[{"Scheme":"spiffe","Host":"x","Path":"/y"}],
			"KeyUsage":5,"ExtKeyUsage":[1,2],"MaxPathLen":-1,"SignatureAlgorithm":11,"SubjectKeyId":"AAEC","EmailAddresses":["a@b.c"],
			"OCSPServer":["http://o"],"CRLDistributionPoints":["http://c"],"PermittedDNSDomains":["x"],"Version":1,"SerialNumber":5,
			"ExtraExtensions":[{"Id":[1,2,3],"Critical":false,"Value":"BQA="}]}}`}, ""},
		{"a CA (Q15)", []string{"Secrets|dbCert|Cert|IsCA", "true", "Secrets|dbCert|Cert|MaxPathLenZero", "true"}, "real CA"},
		{"a CA by extension", []string{"Secrets|dbCert|Cert|ExtraExtensions", `[{"Id":[2,5,29,19],"Critical":true,"Value":"MAMBAf8="}]`}, "real CA"},
		{"TDX package", []string{"Packages|backend", `{"TDX":{"MRTD":` + hexOf(48) + `,"XFAM":` + hexOf(8) + `},"MinimumTCBEvaluationDataNumber":17,"TCBDateAfter":"2025-01-02T00:00:00Z"}`}, ""},
		{"SNP package", []string{"Packages|backend", `{"SNP":{"Measurement":` + hexOf(48) + `,"Policy":{"SMT":true,"migrate_ma":false},"MinimumTCB":{"SNP":3},"VMPL":0}}`}, ""},
		{"SNP package by ID key", []string{"Packages|backend", `{"SNP":{"IDKeyDigest":` + hexOf(48) + `,"GuestSVN":0}}`}, ""},
		{"allowed names", []string{"Marbles|db|AllowedNames", `["db.ns.svc","*.db.ns.svc","10.0.0.1","::1"]`}, ""},
		{"XOR recovery", []string{"RecoveryKeys|b", `"@other2048@"`}, ""},
		{"threshold of all keys", []string{"RecoveryKeys|b", `"@other2048@"`, "Config|RecoveryThreshold", "2"}, ""},
		{"one key twice", []string{"RecoveryKeys|b", `"@rsa2048@"`}, "is also the key"},
		{"index, range, MarbleRun and Previous", []string{"Secrets|my-key", `{"Type":"symmetric-key","Size":128}`,
			"Marbles|web|Parameters|Files|x", `"{{ hex (index .Secrets \"my-key\") }}{{ range $n, $s := .Secrets }}{{ $s.Type }}{{ end }}{{ pem .MarbleRun.MarbleCert.Private }}{{ hex .Previous.Secrets.dbKey }}"`}, ""},
		{"NoTemplates", []string{"Marbles|web|Parameters|Files|x", `{"Data":"{{ nope }}","NoTemplates":true}`}, ""},
		{"a large file without template", []string{"Marbles|web|Parameters|Files|x", `"` + strings.Repeat("x", 2<<20) + `"`}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.item, func(t *testing.T) {
			found := problems(t, edit(t, complete(t), tc.edit...))
			if err := found.Err(); err != nil {
				t.Fatal(err)
			}
			match := func(p manifest.Problem) bool { return strings.Contains(p.Text, tc.warning) }
			if tc.warning == "" && len(found) > 0 || tc.warning != "" && !slices.ContainsFunc(found, match) {
				t.Errorf("want the warning %q, got %v", tc.warning, found)
			}
		})
	}
}

// TestEmojivoto accepts a manifest from the field as it is.
func TestEmojivoto(t *testing.T) {
	data, err := os.ReadFile("../../shared/real-manifests/emojivoto.json")
	if err != nil {
		t.Skip("the shared folder is missing: ", err)
	}
	found := problems(t, string(data))
	if err := found.Err(); err != nil {
		t.Error(err)
	}
	if len(found) != 1 || !strings.Contains(found[0].Text, `"Clients"`) {
		t.Errorf("want one warning for the obsolete section Clients, got %v", found)
	}
}

func TestAzureHSMSealing(t *testing.T) {
	doc := edit(t, complete(t), "Config|FeatureGates", `["AzureHSMSealing"]`)
	env := map[string]string{"EDG_MAA_URL": "u", "EDG_AZURE_HSM_VAULT_URL": "u", "EDG_AZURE_HSM_KEY_NAME": "n",
		"EDG_AZURE_CLIENT_ID": "i", "EDG_AZURE_TENANT_ID": "t", "EDG_AZURE_CLIENT_SECRET": "s"}
	check := func() string {
		if err := manifest.Check([]byte(doc), parse(t, doc), func(n string) string { return env[n] }).Err(); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := check(); got != "" {
		t.Errorf("complete environment: %s", got)
	}
	delete(env, "EDG_AZURE_CLIENT_SECRET")
	env["EDG_AZURE_AUTHORITY_HOST"], env["EDG_AZURE_FEDERATED_TOKEN_FILE"] = "h", "f"
	if got := check(); got != "" {
		t.Errorf("federated environment: %s", got)
	}
	delete(env, "EDG_AZURE_AUTHORITY_HOST")
	delete(env, "EDG_MAA_URL")
	if got := check(); !strings.Contains(got, "lacks: EDG_MAA_URL, EDG_AZURE_CLIENT_SECRET (or") {
		t.Errorf("incomplete environment: %q", got)
	}
	if problems := manifest.Check([]byte(doc), parse(t, doc), nil); len(problems) > 0 {
		t.Errorf("unknown environment: %v", problems)
	}
}
