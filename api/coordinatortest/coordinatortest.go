// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

// Package coordinatortest runs a Coordinator for tests of programs that talk to one: tools on package api, and Marbles.
//
//	alice := coordinatortest.NewUser(t, "alice")
//	c := coordinatortest.New(t, coordinatortest.Options{Manifest: manifestWith(alice.PEM)})
//	secrets, err := c.ClientAs(alice).SecretGet(ctx, []string{"token"})
//	parameters := c.Activate("frontend")
//
// It is the real Coordinator, its REST and gRPC servers included, inside the test's process, in simulation, on loopback
// ports of its own and a state directory that vanishes with the test. Simulation means: no TEE is needed, no quote is
// made or looked at, and nothing is protected. What it refuses, and in which words, is what a deployment would refuse.
//
// It needs a Unix, as the Coordinator does.
//
// Invariant: nothing outlives the test, and nothing is shared between two Coordinators, so tests may run in parallel.
//
// It is for tests only: a program that imports it contains a Coordinator that believes everybody.
package coordinatortest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/server"
	"github.com/marblerun/marblerun/marble"
)

// Options of New. The zero value is a Coordinator that waits for its manifest.
type Options struct {
	// Manifest is set at once, if there is one: JSON, exact bytes.
	Manifest []byte
	// Log gets the Coordinator's log; nil is silence.
	Log *slog.Logger
}

// Coordinator is a running Coordinator. Its fields must not be changed.
type Coordinator struct {
	// ClientAddr is "host:port" of the client API, which package api and the CLI speak.
	ClientAddr string
	// MeshAddr is "host:port" of the Marble API, which Marbles speak.
	MeshAddr string
	// Root is the root certificate, to which clients pin their connections.
	Root *x509.Certificate
	// Client acts for nobody: it may do what needs no user.
	Client *api.Client
	// RecoverySecrets are those of Options.Manifest, by name of their key, encrypted to it.
	RecoverySecrets map[string][]byte

	t    testing.TB
	log  *slog.Logger
	dir  string
	stop func()
}

// New starts a Coordinator, which ends with the test. It fails the test if that, or the manifest, does not work.
func New(t testing.TB, o Options) *Coordinator {
	t.Helper()
	c := &Coordinator{
		ClientAddr: freeAddr(t), MeshAddr: freeAddr(t),
		t: t, log: o.Log, dir: filepath.Join(t.TempDir(), "state"),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.start()
	t.Cleanup(func() { c.stop() })
	if o.Manifest != nil {
		secrets, err := c.Client.ManifestSet(t.Context(), o.Manifest)
		if err != nil {
			t.Fatalf("setting the manifest: %v", err)
		}
		c.RecoverySecrets = secrets
	}
	return c
}

// freeAddr returns a loopback address whose port lies below the range from which the kernel takes ports for outgoing
// connections, so that Restart finds it free again.
func freeAddr(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+mathrand.IntN(20_000))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			err = l.Close()
		}
		if err == nil {
			return addr
		}
	}
	t.Fatalf("finding a free port: %v", err)
	return ""
}

// start binds the addresses of the run before, and serves.
func (c *Coordinator) start() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := server.Listen(ctx, server.Config{
		ClientAddr: c.ClientAddr, MeshAddr: c.MeshAddr, Log: c.log, HTTPErrorLevel: slog.LevelDebug,
		DrainTimeout: time.Second,
	})
	if err != nil {
		cancel()
		c.t.Fatalf("starting the test Coordinator: %v", err)
	}
	kernel, err := coordinator.New(ctx, coordinator.Config{
		SealDir: c.dir, DNSNames: []string{"localhost"}, Simulation: true, TEE: "simulation", Sealers: seal.Simulation(),
		FeatureEnvironment: func(string) string { return "" }, Now: time.Now, Rand: rand.Reader, Log: c.log,
	})
	if err != nil {
		cancel()
		c.t.Fatalf("starting the test Coordinator: %v", firstOf(err, srv.Close()))
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, kernel) }()
	c.ClientAddr, c.MeshAddr = srv.ClientAddr().String(), srv.MeshAddr().String()
	c.stop = func() {
		c.Client.Close()
		cancel()
		if err := firstOf(<-served, kernel.Close(context.Background())); err != nil {
			c.t.Errorf("ending the test Coordinator: %v", err)
		}
		c.stop = func() {}
	}
	c.pin(kernel.ClientTLS().Certificate[0])
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// pin makes Root and Client for the certificate that is presented now.
func (c *Coordinator) pin(der []byte) {
	c.t.Helper()
	root, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Root = root
	c.Client = c.client(api.Options{})
}

func (c *Coordinator) client(o api.Options) *api.Client {
	c.t.Helper()
	o.Root = c.Root
	client, err := api.NewClient(c.ClientAddr, o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// ClientAs returns a client that acts for the user. The manifest must name u.PEM as a user's certificate.
func (c *Coordinator) ClientAs(u User) *api.Client {
	c.t.Helper()
	return c.client(api.Options{ClientCertificate: &u.Certificate})
}

// Environment is what a Marble of the given type needs to find this Coordinator, as "NAME=value": its type, its DNS
// name (localhost), the Coordinator's address and a new identity. It is for os/exec, or with t.Setenv for
// [marble.ConfigFromEnv].
func (c *Coordinator) Environment(marbleType string) []string {
	return []string{
		marble.EnvType + "=" + marbleType, marble.EnvCoordinatorAddr + "=" + c.MeshAddr, marble.EnvDNSNames + "=localhost",
		marble.EnvUUIDFile + "=" + filepath.Join(c.t.TempDir(), "uuid"),
	}
}

// Activate activates a new Marble of the given type and returns what it is given. It fails the test if it is refused;
// to see refusals, call [marble.Activate] with the Environment.
func (c *Coordinator) Activate(marbleType string) *marble.Parameters {
	c.t.Helper()
	environment := map[string]string{}
	for _, pair := range c.Environment(marbleType) {
		name, value, _ := strings.Cut(pair, "=")
		environment[name] = value
	}
	config, err := marble.ConfigFromEnv(func(name string) string { return environment[name] })
	if err != nil {
		c.t.Fatal(err)
	}
	parameters, err := marble.Activate(c.t.Context(), config)
	if err != nil {
		c.t.Fatalf("activating %s: %v", marbleType, err)
	}
	return parameters
}

// Restart ends the Coordinator and starts it again, on the same addresses, with the same state. Clients stay good.
func (c *Coordinator) Restart() {
	c.t.Helper()
	c.stop()
	c.start()
}

// Seal restarts the Coordinator as on another machine, where it cannot open its state: it is in recovery mode
// (api.StateRecovery), with another Root and another Client, until it is given the recovery secrets
// (api.Client.Recover) or another manifest. After a recovery, call Reconnect.
func (c *Coordinator) Seal() {
	c.t.Helper()
	c.stop()
	if err := os.Remove(filepath.Join(c.dir, "sealed_key")); err != nil {
		c.t.Fatalf("sealing the test Coordinator, which needs a manifest first: %v", err)
	}
	c.start()
}

// Reconnect renews Root and Client from what the Coordinator presents now, believing it.
func (c *Coordinator) Reconnect() {
	c.t.Helper()
	presented, err := presentedBy(c.t.Context(), c.ClientAddr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.pin(presented)
}
