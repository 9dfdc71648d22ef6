// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/grpclog"

	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/attest/verifier"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/logging"
	"github.com/marblerun/marblerun/internal/server"
)

// process is what the Coordinator's surroundings offer. thisProcess fills it in; tests use their own.
type process struct {
	getenv func(string) string
	// environ is the names and values of all variables; only their names are looked at, for misspellings.
	environ []string
	getwd   func() (string, error)
	stderr  io.Writer
	// detect finds this process's TEE. The error wraps issue.ErrNoTEE if there is none.
	detect func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error)
	// listening is told the server once its ports are bound; nil in the real program.
	listening func(*server.Server)
}

func thisProcess() process {
	return process{
		getenv: os.Getenv, environ: os.Environ(), getwd: os.Getwd, stderr: os.Stderr, detect: issue.Detect,
	}
}

// run is the whole program. It reports success; why it failed is in the log.
func run(ctx context.Context, p process) bool {
	// The live heap is a few MiB, so at the default the collector would run every dozen activations.
	debug.SetGCPercent(400)
	log := newLog(p)
	what, err := coordinate(ctx, p, log)
	if err != nil {
		log.Error(what, "error", err)
		return false
	}
	log.Info("Coordinator stopped")
	return true
}

func newLog(p process) *slog.Logger {
	dev := p.getenv(envDevMode) == "1"
	level := slog.LevelInfo
	if dev || p.getenv(envDebugLogging) == "1" {
		level = slog.LevelDebug
	}
	log := logging.New(p.stderr, logging.Options{Text: dev, Level: level})
	// gRPC logs to standard error by itself, in its own form, unless told otherwise.
	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer()
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, quiet))
	return log
}

// coordinate runs until ctx ends. On an error, what says in a few words what could not be done.
func coordinate(ctx context.Context, p process, log *slog.Logger) (what string, err error) {
	cfg, err := readConfig(p)
	if err != nil {
		return "Invalid configuration", err
	}
	log.Info("Starting coordinator", "version", version, "commit", commit, "distributed", false)
	for _, name := range unknownVariables(p.environ) {
		log.Warn("Unknown variable in the environment, ignoring it", "name", name)
	}
	early := &earlyChanges{}
	cfg.collateral.OnEarlyChange = early.note
	kernel, v, err := kernelConfig(ctx, p, cfg, log)
	if err != nil {
		return "Cannot establish trust in this process", err
	}
	// Ports first: whoever connects while the state is read waits in the accept queue.
	srv, err := server.Listen(ctx, server.Config{
		ClientAddr: cfg.clientAddr, MeshAddr: cfg.meshAddr, MetricsAddr: cfg.metricsAddr,
		Version: coordinator.Version{Version: version, Commit: commit}, Log: log, HTTPErrorLevel: cfg.httpErrorLevel,
		EarlyTCBChanges: early.n.Load,
	})
	if err != nil {
		return "Cannot listen", err
	}
	defer func() { _ = srv.Close() }() // after serving, the ports are closed already
	if p.listening != nil {
		p.listening(srv)
	}
	c, err := coordinator.New(ctx, kernel)
	if err != nil {
		return "Cannot create Coordinator core", err
	}
	stop := keepFresh(ctx, v, log)
	what, err = serve(ctx, srv, c, cfg)
	stop()
	if closing := closeCoordinator(c); err == nil && closing != nil {
		return "Cannot close the state", closing
	}
	return what, err
}

// keepFresh refreshes collateral in the background until the returned function is called.
func keepFresh(ctx context.Context, v *verifier.Verifier, log *slog.Logger) (stop func()) {
	if v == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("Refreshing collateral in the background ended; it is fetched when it is needed", "error", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// serve sets the startup manifest, if there is one, and serves.
func serve(ctx context.Context, srv *server.Server, c *coordinator.Coordinator, cfg config) (what string, err error) {
	if cfg.startupManifest != "" {
		if err := setStartupManifest(ctx, c, cfg.startupManifest); err != nil {
			return "Cannot set startup manifest", err
		}
	}
	return "Cannot go on", srv.Serve(ctx, c)
}

// maxStartupManifest is the limit of the client API, in bytes.
const maxStartupManifest = 16 << 20

func setStartupManifest(ctx context.Context, c *coordinator.Coordinator, path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err := io.ReadAll(io.LimitReader(file, maxStartupManifest+1))
	if err != nil {
		return err
	}
	if len(data) > maxStartupManifest {
		return fmt.Errorf("%s is larger than %d MiB", path, maxStartupManifest>>20)
	}
	return c.SetStartupManifest(ctx, data)
}

// closeCoordinator finishes what is being written, within a time that an orchestrator grants.
func closeCoordinator(c *coordinator.Coordinator) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Close(ctx)
}

// kernelConfig is the Coordinator's configuration, the TEE included, and the verifier of evidence; nil in simulation.
func kernelConfig(ctx context.Context, p process, cfg config, log *slog.Logger,
) (coordinator.Config, *verifier.Verifier, error) {
	kernel := coordinator.Config{
		SealDir: cfg.sealDir, DNSNames: cfg.dnsNames, IPs: cfg.ips,
		RecoveryOnly: cfg.recoveryOnly, HistoryLimit: cfg.historyLimit,
		FeatureEnvironment: p.getenv, Now: time.Now, Rand: rand.Reader, Log: log,
	}
	v, err := trust(ctx, p, cfg, log, &kernel)
	return kernel, v, err
}
