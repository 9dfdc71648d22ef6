// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// steps is the story.
func steps() []step {
	return []step{
		{"Build the programs", build},
		{"Start a TEE in software", startTEE},
		{"Start a Coordinator in it", bootCoordinator},
		{"Ask the Coordinator what it is, and expect another", showEvidence},
		{"Verify it, and give it a manifest", setManifest},
		{"Start three Marbles", startMarbles},
		{"Be a client: verify everything, trust one certificate", verifyChain},
		{"Stay outside: what has no certificate of this mesh gets nothing", stayOutside},
		{"Kill the Coordinator while the mesh works", killCoordinator},
		{"Bring it back, and restart a Marble", bringBack},
		{"Try to get in without being in the manifest", intrude},
		{"Try to get in as another program than the manifest wants", runOther},
		{"Run a job that may run once, twice", exceedBudget},
		{"Read who was let in", readActivations},
	}
}

func build(ctx context.Context, d *demo) (string, error) {
	programs := []string{
		"./cmd/coordinator", "./cmd/marblerun", "./cmd/premain-libos", "./samples/software-tee",
		"./samples/echo-server", "./samples/echo-client", "./samples/web", "./samples/one-time-job",
	}
	if err := os.MkdirAll(d.bin, 0o700); err != nil {
		return "", err
	}
	d.out.line("Without cgo, into a temporary folder. The first time takes a minute or two.")
	for _, program := range programs {
		d.out.output(program)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", d.bin+string(filepath.Separator), program)
		cmd.Dir, cmd.Env = d.root, append(os.Environ(), "CGO_ENABLED=0")
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", program, err, output)
		}
	}
	return fmt.Sprintf("%d static programs.", len(programs)), nil
}

const coordinatorCommand = "env $(cat tee/coordinator.env) coordinator"

func bootCoordinator(ctx context.Context, d *demo) (string, error) {
	d.out.line("Without a TEE it refuses to start. It trusts a software TEE's root only because these variables " +
		"say so, which is refused in a real TEE, and it tells everybody.")
	d.out.command(coordinatorCommand)
	if err := d.startCoordinator(ctx); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(d.dir, "state", "sealed_data")); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is state before there is a manifest (%v)", err)
	}
	return "It runs at " + d.clientAddr + " (clients) and " + d.meshAddr + " (Marbles) and waits for a manifest.", nil
}

func setManifest(ctx context.Context, d *demo) (string, error) {
	d.out.line("The manifest names packages, Marbles and secrets. The policy that the Coordinator must fulfill is " +
		"era-config.json, in this folder.")
	if _, err := d.cli(ctx, "manifest", "check", "manifest.json"); err != nil {
		return "", err
	}
	output, err := d.cli(ctx, "manifest", "set", "manifest.json", d.clientAddr, cliFlags)
	if err != nil {
		return "", err
	}
	if !strings.Contains(output, "Manifest successfully set") {
		return "", errors.New("the CLI does not say \"Manifest successfully set\"")
	}
	return "The CLI verified the quote: signatures up to the root, revocation lists, TCB level, UniqueID. Then it " +
		"pinned the root certificate and sent the manifest, which is the law of the mesh now.", d.wantReady(ctx)
}

// wantReady checks the Coordinator's status.
func (d *demo) wantReady(ctx context.Context) error {
	output, err := d.cli(ctx, "status", d.clientAddr)
	if err != nil {
		return err
	}
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "3: ") {
			return nil
		}
	}
	return errors.New("the Coordinator is not in state 3, accepting Marbles")
}

// marbleCommand is what a person would type.
func marbleCommand(marbleType, program, workload string) string {
	return fmt.Sprintf("EDG_MARBLE_TYPE=%s EDG_SOFTTEE_SOCKET=tee/%s.sock premain-libos %s", marbleType, workload,
		program)
}

func startMarbles(ctx context.Context, d *demo) (_ string, err error) {
	d.out.line("Each starts behind premain-libos, which shows its evidence, writes the files, sets the variables " +
		"and then becomes the program. Here one is in SGX, one in TDX, one in SEV-SNP, or so their evidence says:")
	d.out.command(marbleCommand("web", "web", "web"))
	if d.web, err = d.startMarble("web", "web", "web", "WEB_LISTEN="+d.webAddr); err != nil {
		return "", err
	}
	d.echoServer, err = d.startMarble("echo-server", "echo-server", "echo-server", "ECHO_LISTEN="+d.echoAddr)
	if err != nil {
		return "", err
	}
	if err := d.await(ctx, d.echoServer, "echo-server listens", sees(d.echoServer, "listening on")); err != nil {
		return "", err
	}
	d.echoClient, err = d.startMarble("echo-client", "echo-client", "echo-client", "ECHO_SERVER="+d.echoAddr,
		"ECHO_INTERVAL=200ms")
	if err != nil {
		return "", err
	}
	if err := d.await(ctx, d.echoClient, "echo-client gets an answer", sees(d.echoClient, "answers")); err != nil {
		return "", err
	}
	if err := d.await(ctx, d.web, "web serves", sees(d.web, "serving HTTPS")); err != nil {
		return "", err
	}
	d.out.output("echo-client: " + d.echoClient.lines("answers")[0])
	d.out.output("echo-server: " + d.echoServer.lines("says")[0])
	return "Two of them talk, over mutual TLS with certificates of this mesh, and know each other by name.", nil
}

// sees checks that a log has a text.
func sees(p *process, text string) func() error {
	return func() error {
		if len(p.lines(text)) == 0 {
			return fmt.Errorf("%s.log has no line with %q yet", p.name, text)
		}
		return nil
	}
}

func verifyChain(ctx context.Context, d *demo) (string, error) {
	d.out.line("First: is the manifest the one that I know? Then: its certificates, please.")
	if _, err := d.cli(ctx, "manifest", "verify", "manifest.json", d.clientAddr, cliFlags); err != nil {
		return "", err
	}
	if _, err := d.cli(ctx, "certificate", "chain", d.clientAddr, "-o", "chain.pem", cliFlags); err != nil {
		return "", err
	}
	if err := d.readAnchor("chain.pem"); err != nil {
		return "", err
	}
	d.out.command("curl --cacert chain.pem https://" + d.webAddr + "/")
	r, err := d.askWeb(ctx, http.MethodGet, "/", "")
	if err != nil {
		return "", err
	}
	if r.body != "Hello from a Marble.\n" {
		return "", fmt.Errorf("web answered %q", r.body)
	}
	d.out.output(r.body)
	d.out.output("certificate of " + r.chain[0].Subject.CommonName)
	for i, c := range r.chain {
		d.out.output(strings.Repeat("  ", i+1) + "signed by " + c.Issuer.CommonName)
	}
	d.note = "remember me"
	if _, err := d.askWeb(ctx, http.MethodPut, "/note", d.note); err != nil {
		return "", err
	}
	if d.fingerprint, err = d.keyFingerprint(ctx); err != nil {
		return "", err
	}
	return "The Coordinator made this certificate, because the manifest says so. I also left a note with web, " +
		"which keeps it encrypted with a key of its own.", nil
}

// keyFingerprint asks web which key it has.
func (d *demo) keyFingerprint(ctx context.Context) (string, error) {
	r, err := d.askWeb(ctx, http.MethodGet, "/status", "")
	if err != nil {
		return "", err
	}
	var status struct{ DataKeyFingerprint string }
	if err := json.Unmarshal([]byte(r.body), &status); err != nil || status.DataKeyFingerprint == "" {
		return "", fmt.Errorf("web's status %q has no fingerprint (%v)", r.body, err)
	}
	d.out.output("web: SHA-256 of the data key begins with " + status.DataKeyFingerprint)
	return status.DataKeyFingerprint, nil
}

func stayOutside(ctx context.Context, d *demo) (string, error) {
	d.out.line("A client that trusts the certificate authorities of this machine instead:")
	_, err := get(ctx, "https://"+d.webAddr+"/", &tls.Config{})
	if err == nil {
		return "", errors.New("web was trusted without the mesh's root")
	}
	d.out.output("client: " + lastOf(err))
	d.out.line("A client without a Marble's certificate at echo-server:")
	if err := d.knockAtEcho(ctx); err == nil {
		return "", errors.New("echo-server let a stranger in")
	} else {
		d.out.output("client: " + lastOf(err))
	}
	return "Both were refused.", nil
}

// knockAtEcho connects as a stranger who believes the server. With TLS 1.3 the refusal arrives with the first read.
func (d *demo) knockAtEcho(ctx context.Context) error {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", d.echoAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "let me in"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// lastOf is the innermost text of an error chain: what a person wants to know.
func lastOf(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}
