// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// startLimit is how long anything may take to come up; this machine may be busy with other things.
const startLimit = time.Minute

// demo is what the steps share.
type demo struct {
	out  *screen
	keep bool
	// root is the module's folder, dir the temporary one, bin where the programs are.
	root, dir, bin string

	clientAddr, meshAddr, echoAddr, webAddr, collateralAddr string

	processes []*process
	// concerned are the processes whose logs matter if the current step fails, besides the Coordinator's.
	concerned []*process

	coordinator, echoServer, echoClient, web *process

	// root certificate of the Coordinator as it was first seen, and the pool that clients trust.
	firstRoot *x509.Certificate
	anchor    *x509.CertPool

	note, fingerprint string

	said map[string]bool // what the CLI warned of already
}

func newDemo(out *screen, keep bool) (*demo, error) {
	d := &demo{out: out, keep: keep, said: map[string]bool{}}
	var err error
	if d.root, err = moduleRoot(); err != nil {
		return nil, err
	}
	for _, addr := range []*string{&d.clientAddr, &d.meshAddr, &d.echoAddr, &d.webAddr, &d.collateralAddr} {
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	if d.dir, err = os.MkdirTemp("", "marblerun-demo-"); err != nil {
		return nil, err
	}
	d.bin = filepath.Join(d.dir, "bin")
	if err := os.Mkdir(filepath.Join(d.dir, "samples"), 0o700); err != nil {
		return d, err
	}
	manifest := filepath.Join("samples", "manifest.json")
	return d, copyFile(filepath.Join(d.root, manifest), filepath.Join(d.dir, manifest))
}

// moduleRoot walks up to go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run the demo inside the checkout, e.g. by \"make demo\"")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// freeAddr finds a port that was free a moment ago. Names, not numbers: localhost is what the certificates say. The port
// lies below the range from which the system takes ports for outgoing connections, so that a process which is killed and
// started again finds it free.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		addr := fmt.Sprintf("localhost:%d", 10_000+rand.IntN(20_000))
		var listener net.Listener
		if listener, err = net.Listen("tcp", addr); err == nil {
			return addr, listener.Close()
		}
	}
	return "", err
}

// cli runs the marblerun CLI as a person would, and shows the command and what it says.
func (d *demo) cli(ctx context.Context, args ...string) (string, error) {
	cmd := d.command(ctx, args)
	output, err := cmd.CombinedOutput()
	d.out.output(short(d.fresh(string(output))))
	if err != nil {
		return "", fmt.Errorf("marblerun %s: %w", strings.Join(args, " "), err)
	}
	return string(output), nil
}

// cliData runs the CLI and shows the command alone; it returns stdout.
func (d *demo) cliData(ctx context.Context, args ...string) ([]byte, error) {
	cmd := d.command(ctx, args)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("marblerun %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return output, nil
}

// command is the CLI in the temporary folder, with nothing of this user's configuration.
func (d *demo) command(ctx context.Context, args []string) *exec.Cmd {
	d.out.command("marblerun " + strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "marblerun"), d.expand(args)...)
	cmd.Dir = d.dir
	cmd.Env = []string{"HOME=" + d.dir, "XDG_CONFIG_HOME=" + filepath.Join(d.dir, "config"), "NO_COLOR=1"}
	return cmd
}

// expand puts the flags in their place, as a shell would.
func (d *demo) expand(args []string) (expanded []string) {
	for _, arg := range args {
		if arg != cliFlags {
			expanded = append(expanded, arg)
			continue
		}
		flags, err := os.ReadFile(filepath.Join(d.dir, "tee", "cli.flags"))
		if err != nil {
			return args // the CLI will say so
		}
		expanded = append(expanded, strings.Fields(string(flags))...)
	}
	return expanded
}

// cliRefused runs the CLI, which must refuse for the given reason, and shows it.
func (d *demo) cliRefused(ctx context.Context, why string, args ...string) error {
	output, err := d.command(ctx, args).CombinedOutput()
	d.out.output(short(d.fresh(string(output))))
	if err == nil || !strings.Contains(string(output), why) {
		return fmt.Errorf("marblerun %s was not refused for the reason %q (%v)", strings.Join(args, " "), why, err)
	}
	return nil
}

// startMarble starts the program behind premain-libos, with evidence as the given workload, and with a folder of its
// own. Started again it finds its UUID there.
func (d *demo) startMarble(marbleType, program, workload string, env ...string) (*process, error) {
	dir := filepath.Join(d.dir, "marbles", marbleType)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	env = append([]string{
		"EDG_MARBLE_TYPE=" + marbleType, "EDG_MARBLE_COORDINATOR_ADDR=" + d.meshAddr, "EDG_MARBLE_DNS_NAMES=localhost",
		d.socket(workload),
	}, env...)
	return d.start(marbleType, dir, env, filepath.Join(d.bin, "premain-libos"), filepath.Join(d.bin, program))
}

// startCoordinator starts the Coordinator on its ports and state and waits until it answers.
func (d *demo) startCoordinator(ctx context.Context) (err error) {
	env, err := d.teeEnv()
	if err != nil {
		return err
	}
	d.coordinator, err = d.start("coordinator", d.dir, append(env,
		"EDG_COORDINATOR_MESH_ADDR="+d.meshAddr, "EDG_COORDINATOR_CLIENT_ADDR="+d.clientAddr,
		"EDG_COORDINATOR_SEAL_DIR="+filepath.Join(d.dir, "state"), "EDG_COORDINATOR_DNS_NAMES=localhost",
	), filepath.Join(d.bin, "coordinator"))
	if err != nil {
		return err
	}
	var root *x509.Certificate
	err = d.await(ctx, d.coordinator, "the Coordinator answers", func() (err error) {
		root, err = d.ping(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if d.firstRoot == nil {
		d.firstRoot = root
	}
	if !d.firstRoot.Equal(root) {
		return errors.New("the Coordinator came back with another root certificate")
	}
	return nil
}

// ping asks for the status only to see whether somebody answers, and returns the certificate it saw. It trusts nothing.
func (d *demo) ping(ctx context.Context) (*x509.Certificate, error) {
	response, err := get(ctx, "https://"+d.clientAddr+"/api/v2/status", &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	if response.status != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.status)
	}
	return response.chain[0], nil
}

// await repeats check until it succeeds. It gives up if the process ends.
func (d *demo) await(ctx context.Context, p *process, what string, check func() error) error {
	deadline := time.Now().Add(startLimit)
	for {
		err := check()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case p.ended():
			return fmt.Errorf("waiting until %s: %s ended (%v)", what, p.name, p.cmd.ProcessState)
		case time.Now().After(deadline):
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// suspects are the processes whose logs are shown after a failure.
func (d *demo) suspects() []*process {
	list := d.concerned
	if d.coordinator != nil && !slices.Contains(list, d.coordinator) {
		list = append(list, d.coordinator)
	}
	return list
}

// cleanUp ends what was started, last first, and removes the folder.
func (d *demo) cleanUp() {
	if d.keep {
		return
	}
	for _, p := range slices.Backward(d.processes) {
		p.stop()
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.out.line("could not remove " + d.dir + ": " + err.Error())
	}
}
