// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

const sgxFolder = "../images/coordinator-sgx/"

// gramineManifest is what is compared; expressions of the template are inside strings only, so it is TOML before
// it is rendered.
type gramineManifest struct {
	Loader struct {
		Entrypoint struct{ URI string }
		LogLevel   string `toml:"log_level"`
		Argv       []string
		Env        map[string]any
	}
	LibOS struct{ Entrypoint string }
	FS    struct {
		Root     struct{ Type string }
		StartDir string `toml:"start_dir"`
		Mounts   []struct{ Path, URI, Type string }
	}
	Sys struct {
		EnableDNS   bool `toml:"enable_extra_runtime_domain_names_conf"`
		Flock       bool `toml:"experimental__enable_flock"`
		Eventfd     bool `toml:"insecure__allow_eventfd"`
		Sigterm     bool `toml:"enable_sigterm_injection"`
		NoProcesses bool `toml:"disallow_subprocesses"`
		Stack       struct{ Size string }
	}
	SGX struct {
		TrustedFiles      []string `toml:"trusted_files"`
		AllowedFiles      []string `toml:"allowed_files"`
		Debug             bool
		RemoteAttestation string `toml:"remote_attestation"`
		ProdID            int    `toml:"isvprodid"`
		SVN               int    `toml:"isvsvn"`
		EnclaveSize       string `toml:"enclave_size"`
		MaxThreads        int    `toml:"max_threads"`
	}
}

func readGramine(t *testing.T) (gramineManifest, toml.MetaData) {
	t.Helper()
	var m gramineManifest
	meta, err := toml.DecodeFile(sgxFolder+"coordinator.manifest.template", &m)
	if err != nil {
		t.Fatal(err)
	}
	return m, meta
}

// withheld are the variables of the Coordinator that the host cannot set in an enclave, and why.
func withheld() map[string]string {
	const refused = "refused in a TEE: what the host cannot set need not be refused"
	return map[string]string{
		"EDG_COORDINATOR_SEAL_DIR":     "fixed: only one folder is mounted",
		"EDG_CWD":                      "base of the default of EDG_COORDINATOR_SEAL_DIR, which is fixed",
		"EDG_COORDINATOR_SIMULATION":   refused,
		"OE_SIMULATION":                refused,
		"EDG_COORDINATOR_DEV_MODE":     refused,
		"EDG_COORDINATOR_SOFTTEE_ROOT": refused,
		"EDG_SOFTTEE_SOCKET":           refused,
		"EDG_SOFTTEE_KIND":             refused,
	}
}

// Each documented variable is passed through or consciously not, and nothing else is passed through.
func TestGramineEnvironment(t *testing.T) {
	text, err := os.ReadFile("../docs/reference/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	// Names in the first column of the tables.
	documented := map[string]bool{}
	for row := range strings.Lines(string(text)) {
		if cells := strings.Split(row, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`((?:EDG|OE)_[A-Z_]+)").FindAllStringSubmatch(cells[1], -1) {
				documented[name[1]] = true
			}
		}
	}
	if len(documented) < 25 {
		t.Fatalf("found %d variables only in environment.md", len(documented))
	}
	m, _ := readGramine(t)
	passed := map[string]bool{}
	for name, value := range m.Loader.Env {
		table, isTable := value.(map[string]any)
		passed[name] = isTable && table["passthrough"] == true
		if passed[name] && !documented[name] {
			t.Errorf("%s is passed through, but environment.md does not know it", name)
		}
	}
	for name := range documented {
		reason := withheld()[name]
		if passed[name] == (reason != "") {
			t.Errorf("%s: passed through: %t; reason to withhold it: %q", name, passed[name], reason)
		}
	}
	for name := range withheld() {
		if !documented[name] {
			t.Errorf("%s is withheld, but environment.md does not know it", name)
		}
	}
	if m.Loader.Env["EDG_COORDINATOR_SEAL_DIR"] != coordinatorState {
		t.Errorf("the state is in %v", m.Loader.Env["EDG_COORDINATOR_SEAL_DIR"])
	}
}

// What weakens verification must never be passed through, whatever the list above says.
func TestGramineWithholdsWhatIsRefusedInATEE(t *testing.T) {
	text, err := os.ReadFile("../docs/reference/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := readGramine(t)
	n := 0
	for row := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(row), "|")
		if len(cells) < 3 || strings.TrimSpace(cells[len(cells)-2]) != "refused in a TEE" {
			continue
		}
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			n++
			if m.Loader.Env[name[1]] != nil {
				t.Errorf("the manifest says something about %s", name[1])
			}
		}
	}
	if n < 5 {
		t.Errorf("found %d variables that are refused in a TEE", n)
	}
}

func TestGramineManifest(t *testing.T) {
	m, meta := readGramine(t)
	for _, key := range meta.Undecoded() {
		if !strings.HasPrefix(key.String(), "loader.env.") {
			t.Errorf("the test does not look at %s", key)
		}
	}
	coordinator := pictures(nil)[0]
	program := coordinator.Entrypoint[0]
	if m.LibOS.Entrypoint != program || !slices.Equal(m.Loader.Argv, coordinator.Entrypoint) ||
		m.FS.StartDir != coordinator.WorkingDir {
		t.Errorf("entry point %s, arguments %q, in %s", m.LibOS.Entrypoint, m.Loader.Argv, m.FS.StartDir)
	}
	if m.SGX.Debug || m.SGX.RemoteAttestation != "dcap" || m.Loader.LogLevel != "error" || m.FS.Root.Type != "tmpfs" {
		t.Errorf("not for production: %+v", m.SGX)
	}
	if !m.Sys.Flock || !m.Sys.Eventfd || !m.Sys.EnableDNS || !m.Sys.NoProcesses {
		t.Errorf("the Coordinator does not start or fetches nothing: %+v", m.Sys)
	}
	if m.SGX.ProdID == 0 || m.SGX.SVN == 0 || m.SGX.MaxThreads < 64 {
		t.Errorf("product %d, version %d, %d threads", m.SGX.ProdID, m.SGX.SVN, m.SGX.MaxThreads)
	}
	// Each mount is trusted or allowed, and not both.
	for _, mount := range m.FS.Mounts {
		trusted := slices.Contains(m.SGX.TrustedFiles, mount.URI)
		allowed := slices.Contains(m.SGX.AllowedFiles, mount.URI+"/")
		if trusted == allowed || mount.Type != "" {
			t.Errorf("%s: trusted: %t, allowed: %t, type %q", mount.Path, trusted, allowed, mount.Type)
		}
		if strings.HasPrefix(mount.Path, program) && !trusted {
			t.Errorf("the program is not trusted")
		}
	}
	const gramine = 1 // Gramine itself is trusted and not mounted
	if len(m.SGX.TrustedFiles)+len(m.SGX.AllowedFiles) != len(m.FS.Mounts)+gramine {
		t.Errorf("files are trusted or allowed that are not mounted: %v %v", m.SGX.TrustedFiles, m.SGX.AllowedFiles)
	}
}

// Paths of the manifest are those that the image has, and those that the chart mounts.
func TestGramineImage(t *testing.T) {
	m, _ := readGramine(t)
	last, text := instructions(t, "coordinator-sgx")
	for _, mount := range m.FS.Mounts {
		if file := strings.TrimPrefix(mount.URI, "file:"); !strings.Contains(text, file) {
			t.Errorf("the Dockerfile does not make %s", file)
		}
	}
	if last["USER"] != "65532:65532" || last["ENTRYPOINT"] != `["/opt/marblerun/entrypoint"]` {
		t.Errorf("USER %s, ENTRYPOINT %s", last["USER"], last["ENTRYPOINT"])
	}
	chart, err := os.ReadFile("../charts/marblerun/templates/coordinator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`value: (/etc/\S+)|mountPath: (/etc/\S+)`).FindAllStringSubmatch(string(chart), -1)
	if len(used) == 0 {
		t.Error("found no files in the chart")
	}
	for _, match := range used {
		if file := match[1] + match[2]; !strings.HasPrefix(file, "/etc/marblerun/") {
			t.Errorf("the chart uses %s, which the enclave does not see", file)
		}
	}
	values, err := os.ReadFile("../charts/marblerun/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^  sealDir: ` + coordinatorState + `/?$`).Match(values) {
		t.Errorf("the chart keeps the state elsewhere than in %s", coordinatorState)
	}
}

// The entry point names what is missing.
func TestGramineEntrypoint(t *testing.T) {
	for _, device := range []string{"/dev/sgx_enclave", "/dev/sgx/enclave"} {
		if _, err := os.Stat(device); err == nil {
			t.Skipf("SKIP: this machine has %s", device)
		}
	}
	info, err := os.Stat(path.Join(sgxFolder, "entrypoint"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&0o111 == 0 {
		t.Error("it cannot be executed")
	}
	out, err := exec.Command("sh", sgxFolder+"entrypoint").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no /dev/sgx_enclave\n  hint: ") {
		t.Errorf("%v: %s", err, out)
	}
}
