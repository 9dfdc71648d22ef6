// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/sigstruct/sigstructtest"
)

// packageFiles are a package of each kind, and what is none.
func packageFiles(t *testing.T, structure []byte) {
	t.Helper()
	meta := sigstructtest.ELF(sigstructtest.Section{Name: ".note.sgxmeta", Data: sigstructtest.SGXMeta(structure)})
	for name, data := range map[string][]byte{
		"app":             sigstructtest.ELF(sigstructtest.Section{Name: ".oeinfo", Data: sigstructtest.OEInfo(structure)}),
		"sdk.signed.so":   meta,
		"gramine/app.sig": structure,
		"image/build/lib/libocclum-libos.signed.so": meta,
		"broken.so":   sigstructtest.ELF(sigstructtest.Section{Name: ".note.sgxmeta", Data: structure[:1000]}),
		"empty/notes": []byte("nothing"),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func runPackageInfo(args ...string) (stdout, stderr string, err error) {
	var out, notes bytes.Buffer
	cmd := packageInfo(&console.Console{Out: &out, Err: &notes})
	cmd.SilenceUsage = true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&notes)
	err = cmd.Execute()
	return out.String(), notes.String(), err
}

// The texts of cli.md §8, and those for C20 and C21.
func TestPackageInfo(t *testing.T) {
	key, err := sigstructtest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	structure := key.Sign(sigstructtest.Enclave{
		MRENCLAVE: [32]byte{0xab, 31: 0xcd}, ProductID: 7, SVN: 65535, Date: 0x20260131, Mask: 2,
	})
	packageFiles(t, structure)
	properties := fmt.Sprintf("UniqueID (MRENCLAVE)      : ab%scd\nSignerID (MRSIGNER)       : %x\n"+
		"ProductID (ISVPRODID)     : 7\nSecurityVersion (ISVSVN)  : 65535\n", strings.Repeat("00", 30), key.SignerID())
	for path, head := range map[string]string{
		"app":             "PackageProperties for 'app':\n",
		"sdk.signed.so":   "PackageProperties for 'sdk.signed.so':\n",
		"gramine/app.sig": "PackageProperties for 'gramine/app.sig':\n",
		"gramine":         "Detected Gramine instance.\nPackageProperties for Gramine instance at 'gramine':\n",
		"image":           "Detected Occlum image.\nPackageProperties for Occlum image at 'image':\n",
	} {
		out, notes, err := runPackageInfo(path)
		if diff := cmp.Diff(head+properties, out); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", path, err, diff)
		}
		if notes != "Date of the signature: 2026-01-31. Debug mode: forbidden.\n" {
			t.Errorf("%s: stderr %q", path, notes)
		}
	}

	const failed = "ERROR: Failed to automatically determine SGX package signature properties.\n"
	for path, want := range map[string]string{
		"broken.so": failed + "  EGo or Open Enclave: the ELF file has no section .oeinfo\n" +
			"  Gramine: a SIGSTRUCT has 1808 bytes, not 1281\n" +
			"  SGX SDK or Occlum: section .note.sgxmeta: no SIGSTRUCT found; is the enclave signed?\n" +
			"Error: unable to determine enclave properties\n",
		"empty": failed + "  Gramine: there is no .sig file\n" +
			"  Occlum: stat empty/build/lib/libocclum-libos.signed.so: no such file or directory\n" +
			"Error: unable to determine enclave properties\n",
		"missing": "Error: stat missing: no such file or directory\n",
	} {
		out, notes, err := runPackageInfo(path)
		if diff := cmp.Diff(want, notes); diff != "" || err == nil || out != "" {
			t.Errorf("%s: stdout %q, %v\n%s", path, out, err, diff)
		}
	}
}

func TestPackageInfoJSON(t *testing.T) {
	key, err := sigstructtest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	forged := key.Sign(sigstructtest.Enclave{ProductID: 7, SVN: 2})
	forged[960] = 1
	packageFiles(t, forged)
	out, _, err := runPackageInfo("-o", "json", "gramine")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	warnings, _ := got["warnings"].([]any)
	if len(warnings) != 2 || !strings.HasPrefix(fmt.Sprint(warnings[0]), "The enclave's signature is invalid") {
		t.Errorf("warnings %q", warnings)
	}
	delete(got, "warnings")
	want := map[string]any{
		"path": "gramine", "file": "gramine/app.sig", "kind": "Gramine", "date": "none", "debug": "allowed",
		"signatureValid": false,
		"package": map[string]any{
			"UniqueID": "01" + strings.Repeat("00", 31), "SignerID": fmt.Sprintf("%x", key.SignerID()),
			"ProductID": 7.0, "SecurityVersion": 2.0,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}

	_, notes, err := runPackageInfo("app")
	if err != nil || strings.Count(notes, "Warning: ") != 2 || !strings.Contains(notes, "Date of the signature: none.") {
		t.Errorf("%v, stderr %q", err, notes)
	}
}
