// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package program is marble-injector as a whole: flags and environment, the serving certificate, listening, stopping.
// The deciding is done in package inject.
//
// Invariants:
//
//   - What is wrong from the start, flags or files, ends the program at once with the reason as its last log line. What
//     goes wrong later is logged and counted, and the program goes on with what it has.
//   - Connections, handshakes, headers, bodies and answers are bounded in number, size and time.
//   - After the context has ended, requests are still accepted for a while, because the Service keeps sending them
//     until all nodes know better; then what is in work is finished.
package program

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject"
	"github.com/marblerun/marblerun/internal/kube/inject/certs"
	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
	"github.com/marblerun/marblerun/internal/kube/inject/metrics"
	"github.com/marblerun/marblerun/internal/logging"
)

// Process is what the program's surroundings offer.
type Process struct {
	// Args are the arguments without the program's name.
	Args   []string
	Getenv func(string) string
	Stderr io.Writer
	// Version and Commit of the program.
	Version, Commit string
	// ServiceAccount is the folder with token, namespace and CA.
	ServiceAccount string
	// Listening is told the addresses once they are bound, metrics is nil if off; may be nil.
	Listening func(webhook, metrics net.Addr)
}

// Run runs until ctx ends. It returns the exit code: 0 after an orderly end, 2 for wrong flags, else 1.
func Run(ctx context.Context, p Process) int {
	cfg, err := readConfig(p.Args, p.Getenv, p.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	log := logging.New(p.Stderr, logging.Options{Text: cfg.logText, Level: cfg.logLevel})
	if err != nil {
		log.Error("Invalid configuration", "error", err)
		return 2
	}
	log.Info("Starting marble-injector webhook", "version", p.Version, "commit", p.Commit)
	if err := run(ctx, p, cfg, log); err != nil {
		log.Error("Cannot go on", "error", err)
		return 1
	}
	log.Info("marble-injector stopped")
	return 0
}

// source is where the serving certificate comes from.
type source interface {
	Certificate() *tls.Certificate
	Run(context.Context)
}

func run(ctx context.Context, p Process, cfg config, log *slog.Logger) error {
	injector, err := inject.New(cfg.inject)
	if err != nil {
		return err
	}
	counts := metrics.New(p.Version, p.Commit)
	certificates, err := newSource(p, cfg, log, counts)
	if err != nil {
		return err
	}
	s := &servers{cfg: cfg, log: log, metrics: counts, certificate: certificates.Certificate,
		handler: inject.NewHandler(injector, log, counts, time.Now)}
	if err := s.bind(ctx); err != nil {
		return err
	}
	if p.Listening != nil {
		p.Listening(s.webhook.Addr(), s.metricsAddr())
	}
	// Certificates are looked after until the last request is answered.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { certificates.Run(background) })
	err = s.serve(ctx)
	stop()
	running.Wait()
	return err
}

func newSource(p Process, cfg config, log *slog.Logger, counts *metrics.Metrics) (source, error) {
	if cfg.managed.secret == "" {
		return certs.NewFiles(certs.FilesConfig{
			Cert: cfg.certFile, Key: cfg.keyFile, Now: time.Now, Log: log, Observer: counts,
		})
	}
	cluster, namespace, err := kubeapi.InCluster(p.Getenv, p.ServiceAccount)
	if err != nil {
		return nil, fmt.Errorf("-caSecret needs the API server: %w", err)
	}
	m := cfg.managed
	if m.namespace == "" {
		m.namespace = namespace
	}
	if m.webhooks == "" {
		m.webhooks = "marble-injector-" + m.namespace
	}
	return certs.NewManaged(certs.ManagedConfig{
		Cluster: cluster, Namespace: m.namespace, Secret: m.secret, Webhooks: m.webhooks, Service: m.service,
		ClusterDomain: cfg.inject.ClusterDomain, ServingLife: m.servingLife, CALife: m.caLife,
		Now: time.Now, Log: log, Observer: counts,
	}), nil
}

// newHTTPServer bounds what a client can make the server wait for.
func newHTTPServer(handler http.Handler, log *slog.Logger, level slog.Level) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // the API server waits for at most as long
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), level),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          32,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     128 << 10,
		},
	}
}
