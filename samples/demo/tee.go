// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// cliFlags is how a shell passes the flags that the software TEE wrote for the CLI.
const cliFlags = "$(cat tee/cli.flags)"

// workloads are what the software TEE measures. The last two are not what the manifest wants.
var workloads = []string{
	"coordinator=sgx-v3,program=bin/coordinator",
	"echo-server=sgx-v3,program=bin/echo-server,product=2,svn=3",
	"echo-client=tdx-v4,program=bin/echo-client",
	"web=snp-v3,program=bin/web",
	"one-time-job=sgx-v4,program=bin/one-time-job",
	"changed-web=snp-v3,program=bin/changed-web",
	"old-server=sgx-v3,product=2,svn=2,status=OutOfDate,debug",
}

func startTEE(ctx context.Context, d *demo) (string, error) {
	d.out.line("It measures programs, signs what it saw as a machine with SGX, TDX or SEV-SNP does, and hands that " +
		"out at a socket for each program. It also plays Intel's and AMD's services.")
	if err := d.changeWeb(); err != nil {
		return "", err
	}
	args := append([]string{"-dir", "tee", "-manifest", "samples/manifest.json"}, workloads...)
	d.out.command("software-tee " + strings.Join(args, " "))
	args = append([]string{"-listen", d.collateralAddr}, args...)
	tee, err := d.start("software-tee", d.dir, nil, append([]string{filepath.Join(d.bin, "software-tee")}, args...)...)
	if err != nil {
		return "", err
	}
	err = d.await(ctx, tee, "the software TEE is ready", func() error {
		_, err := os.Stat(filepath.Join(d.dir, "tee", "ready"))
		return err
	})
	if err != nil {
		return "", err
	}
	d.out.line("It filled the packages of samples/manifest.json with its measurements:")
	if err := d.showPackages(); err != nil {
		return "", err
	}
	d.out.line("Manifest and policy come to those who deploy by a way that they trust:")
	d.out.command("cp tee/manifest.json tee/era-config.json .")
	for _, name := range []string{"manifest.json", "era-config.json"} {
		if err := copyFile(filepath.Join(d.dir, "tee", name), filepath.Join(d.dir, name)); err != nil {
			return "", err
		}
	}
	return "Simulated: the hardware. This program believes whoever asks. Real: formats, signatures, chains, " +
		"revocation lists, TCB levels and policies, and those who verify them.", nil
}

// changeWeb makes a copy of web with one byte more.
func (d *demo) changeWeb() error {
	d.out.command("(cat bin/web; echo) > bin/changed-web")
	program, err := os.ReadFile(filepath.Join(d.bin, "web"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.bin, "changed-web"), append(program, '\n'), 0o700)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// showPackages shows each package of the manifest on a line.
func (d *demo) showPackages() error {
	data, err := os.ReadFile(filepath.Join(d.dir, "tee", "manifest.json"))
	if err != nil {
		return err
	}
	var manifest struct{ Packages map[string]json.RawMessage }
	if err := json.Unmarshal(data, &manifest); err != nil {
		return err
	}
	for _, marble := range []string{"echo-server", "echo-client", "web", "one-time-job"} {
		var line bytes.Buffer
		if err := json.Compact(&line, manifest.Packages[marble]); err != nil {
			return fmt.Errorf("the package of %s: %w", marble, err)
		}
		d.out.output(fmt.Sprintf("%q: %s", marble, short(line.String())))
	}
	return nil
}

// teeEnv is the environment of a Coordinator in the software TEE.
func (d *demo) teeEnv() ([]string, error) {
	data, err := os.ReadFile(filepath.Join(d.dir, "tee", "coordinator.env"))
	return strings.Fields(string(data)), err
}

// socket is the variable that gives a Marble its evidence.
func (d *demo) socket(workload string) string {
	return "EDG_SOFTTEE_SOCKET=" + filepath.Join(d.dir, "tee", workload+".sock")
}

// hexadecimal is a digest or key, too long for the screen.
var hexadecimal = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{20,}\b`)

// short leaves the beginning of digests.
func short(text string) string { return hexadecimal.ReplaceAllString(text, "$1…") }

// told are the lines of "evidence show" that the screen has room for, by what they begin with.
var told = []string{"TEE:", "UniqueID", "SecurityVersion", "Debug", "Report data", "FMSPC", "TCB SVNs", "Subject"}

func showEvidence(ctx context.Context, d *demo) (string, error) {
	d.out.command("curl -k https://" + d.clientAddr + "/quote -o quote.json")
	r, err := get(ctx, "https://"+d.clientAddr+"/quote", &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "quote.json"), []byte(r.body), 0o600); err != nil {
		return "", err
	}
	output, err := d.cliData(ctx, "evidence", "show", "quote.json")
	if err != nil {
		return "", err
	}
	quoting := false // what follows is about the quoting enclave, which has fields of the same names
	for line := range strings.Lines(string(output)) {
		switch {
		case strings.HasPrefix(line, "Quoting"):
			quoting = true
		case strings.HasPrefix(line, "Platform"):
			quoting = false
		}
		begins := func(with string) bool { return strings.HasPrefix(strings.TrimSpace(line), with) }
		if !quoting && slices.ContainsFunc(told, begins) {
			name, _, _ := strings.Cut(line, ",O=") // the rest of a subject is the same for all
			d.out.output(short(name))
		}
	}
	digest := sha256.Sum256(d.firstRoot.Raw)
	if !strings.Contains(string(output), fmt.Sprintf("%x", digest)) {
		return "", errors.New("the report data is not the SHA-256 of the root certificate")
	}
	d.out.line("Anybody can read that, and nothing is verified yet. The report data is the SHA-256 of the root " +
		"certificate. Now the CLI verifies, but expects another build of the Coordinator:")
	return "The quote is genuine, but not from the program that I expect. The manifest was not even sent.",
		d.expectAnother(ctx)
}

// expectAnother wants a Coordinator with another UniqueID.
func (d *demo) expectAnother(ctx context.Context) error {
	policy := fmt.Sprintf("{\"UniqueID\": \"%x\"}\n", sha256.Sum256([]byte("another build")))
	if err := os.WriteFile(filepath.Join(d.dir, "other-era.json"), []byte(policy), 0o600); err != nil {
		return err
	}
	return d.cliRefused(ctx, "invalid UniqueID", "manifest", "set", "manifest.json", d.clientAddr,
		"--era-config", "other-era.json", cliFlags)
}

func runOther(ctx context.Context, d *demo) (string, error) {
	d.out.line("web with one byte more. Its evidence is genuine, too:")
	if err := d.refused("web", "changed-web", "changed-web", "SNP.Measurement is"); err != nil {
		return "", err
	}
	d.out.line("echo-server, but an old version, in debug mode, on a machine without updates:")
	if err := d.refused("echo-server", "echo-server", "old-server", "SecurityVersion is 2"); err != nil {
		return "", err
	}
	d.out.line("All reasons at once. The CLI also says what would have to change, should it be welcome:")
	args := []string{"evidence", "verify", "tee/old-server.evidence", "--manifest", "manifest.json", "--package",
		"echo-server", cliFlags}
	output, err := d.command(ctx, args).Output()
	if err == nil {
		return "", errors.New("the CLI accepts the evidence")
	}
	text := string(output)
	_, reasons, _ := strings.Cut(text, "\nReason ")
	for line := range strings.Lines("Reason " + reasons) {
		if line = strings.TrimSpace(line); line != "" {
			d.out.output(indented(line))
		}
	}
	for _, change := range []string{"lower SecurityVersion to 2", "set Debug to true", "add \"OutOfDate\""} {
		if !strings.Contains(text, change) {
			return "", fmt.Errorf("the CLI does not say %q", change)
		}
	}
	return "None of these ran, and none got a key or a secret.", nil
}

// indented has what belongs to a reason stand below its place in the manifest. What the place says in words was shown.
func indented(line string) string {
	if place, _, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(line, "Reason at ") {
		return strings.TrimPrefix(place, "Reason at ")
	}
	return "  " + line
}

// warnings are what the CLI says again and again, by what they begin with.
var warnings = []string{"Warning: ", "Using policy ", "trusts a software TEE ", "software TEE: "}

// fresh is what the CLI says, without the warnings that were shown before. There is one for each root; they
// differ in what is in parentheses only.
func (d *demo) fresh(output string) string {
	var kept strings.Builder
	for line := range strings.Lines(output) {
		topic, _, _ := strings.Cut(line, "(")
		begins := func(with string) bool { return strings.HasPrefix(line, with) }
		repeats := slices.ContainsFunc(warnings, begins)
		if repeats && d.said[topic] {
			continue
		}
		d.said[topic] = true
		kept.WriteString(line)
	}
	return kept.String()
}
