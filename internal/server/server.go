// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package server is the Coordinator's ways in: the client API (package rest), the Marble API (package mesh) and the metrics
// (package metrics), all behind the bounded listener of package listen. It translates and never decides.
//
// A program binds the ports first (Listen), so that a wrong address is found before anything slow begins and early
// connections wait in the accept queue, then makes its Coordinator, then serves (Serve) until its context ends.
//
// Invariants:
//
//   - Without the client API or the Marble API the program does not run. Without metrics it runs, and says so.
//   - When the context ends, nothing new is accepted, and what is in work gets Config.DrainTimeout to finish.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/server/listen"
	"github.com/marblerun/marblerun/internal/server/mesh"
	"github.com/marblerun/marblerun/internal/server/metrics"
	"github.com/marblerun/marblerun/internal/server/rest"
)

// Coordinator is what is served. *coordinator.Coordinator implements it.
type Coordinator interface {
	rest.Coordinator
	mesh.Activator
	// ClientTLS and MeshTLS are the current identities of the two APIs.
	ClientTLS() *tls.Certificate
	MeshTLS() *tls.Certificate
	// Fatal delivers the error after which the program must end.
	Fatal() <-chan error
}

// Config of a Server.
type Config struct {
	// ClientAddr and MeshAddr are TCP listen addresses, e.g. ":4433" and ":2001".
	ClientAddr, MeshAddr string
	// MetricsAddr is the listen address of metrics and event log; "" turns them off.
	MetricsAddr string

	Version coordinator.Version
	Log     *slog.Logger
	// HTTPErrorLevel is the level of errors of HTTP connections, e.g. failed handshakes.
	HTTPErrorLevel slog.Level
	// EarlyTCBChanges counts platforms that Intel's early TCB data set would rate differently; nil is 0.
	EarlyTCBChanges func() uint64
	// DrainTimeout is how long requests in work may take after the context has ended; 0 means 10 s.
	DrainTimeout time.Duration
}

// Server has its ports bound.
type Server struct {
	cfg                   Config
	client, mesh, metrics net.Listener // metrics is nil if off
}

// Listen binds the ports.
func Listen(ctx context.Context, cfg Config) (_ *Server, err error) {
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	s := &Server{cfg: cfg}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	var lc net.ListenConfig
	if s.client, err = lc.Listen(ctx, "tcp", cfg.ClientAddr); err != nil {
		return nil, fmt.Errorf("binding the client API (EDG_COORDINATOR_CLIENT_ADDR): %w", err)
	}
	if s.mesh, err = lc.Listen(ctx, "tcp", cfg.MeshAddr); err != nil {
		return nil, fmt.Errorf("binding the Marble API (EDG_COORDINATOR_MESH_ADDR): %w", err)
	}
	if cfg.MetricsAddr == "" {
		return s, nil
	}
	var failed error
	if s.metrics, failed = lc.Listen(ctx, "tcp", cfg.MetricsAddr); failed != nil {
		cfg.Log.Warn("Cannot listen for metrics. Proceeding without them.", "address", cfg.MetricsAddr, "error", failed)
		s.metrics = nil
	}
	return s, nil
}

// ClientAddr is the address that the client API is bound to.
func (s *Server) ClientAddr() net.Addr { return s.client.Addr() }

// MeshAddr is the address that the Marble API is bound to.
func (s *Server) MeshAddr() net.Addr { return s.mesh.Addr() }

// MetricsAddr is the address that the metrics are bound to, nil if they are off.
func (s *Server) MetricsAddr() net.Addr {
	if s.metrics == nil {
		return nil
	}
	return s.metrics.Addr()
}

// Close gives the ports back without having served.
func (s *Server) Close() error { return s.close() }

func (s *Server) close() error {
	var errs []error
	for _, l := range []net.Listener{s.client, s.mesh, s.metrics} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// part is one of the servers.
type part struct {
	name  string
	serve func() error
	stop  func(context.Context)
}

// Serve serves c until ctx ends, which is no error, or until something fails.
func (s *Server) Serve(ctx context.Context, c Coordinator) error {
	var m *metrics.Metrics
	parts := []part{}
	if s.metrics != nil {
		m = metrics.New(metrics.Options{
			Version: s.cfg.Version.Version, Commit: s.cfg.Version.Commit,
			State:    func() int { return c.Status().Code },
			Manifest: func() ([]byte, string) { return currentManifest(c) },
			EarlyTCB: s.cfg.EarlyTCBChanges,
		})
		parts = append(parts, s.metricsPart(m))
	}
	parts = append(parts, s.clientPart(c, m), s.meshPart(c, m))

	ended := make(chan error, len(parts))
	var running sync.WaitGroup
	for _, p := range parts {
		running.Go(func() { ended <- p.run() })
	}
	var err error
	drain := s.cfg.DrainTimeout
	select {
	case <-ctx.Done():
		s.cfg.Log.Info("Shutting down")
	case err = <-ended:
	case err = <-c.Fatal():
		drain = time.Second // nothing more can be accomplished
	}
	stop(parts, drain)
	running.Wait()
	return err
}

func currentManifest(c Coordinator) ([]byte, string) {
	m, err := c.Manifest()
	if err != nil {
		return nil, ""
	}
	return m.Bytes, m.Fingerprint
}

// run serves until the part is stopped, which is no error.
func (p part) run() error {
	if err := p.serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving the %s: %w", p.name, err)
	}
	return nil
}

func stop(parts []part, drain time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var stopping sync.WaitGroup
	for _, p := range parts {
		stopping.Go(func() { p.stop(ctx) })
	}
	stopping.Wait()
}

func (s *Server) clientPart(c Coordinator, m *metrics.Metrics) part {
	cfg := rest.Config{Coordinator: c, Log: s.cfg.Log}
	if m != nil {
		cfg.Observer = m
	}
	server := rest.New(cfg).Server(s.cfg.Log, s.cfg.HTTPErrorLevel)
	s.cfg.Log.Info("Starting the client server", "address", s.cfg.ClientAddr)
	return part{
		name: "client API",
		serve: func() error {
			s.cfg.Log.Info("Starting client https server", "address", s.client.Addr().String())
			return server.Serve(listen.New(s.client, listen.Config{
				TLS: listen.ClientAPI(c.ClientTLS), Failed: s.handshakeFailed("client", s.cfg.HTTPErrorLevel),
			}))
		},
		stop: drainHTTP(server),
	}
}

func (s *Server) meshPart(c Coordinator, m *metrics.Metrics) part {
	cfg := mesh.Config{Activator: c, Log: s.cfg.Log}
	if m != nil {
		cfg.Observer = m
	}
	server := mesh.New(cfg)
	s.cfg.Log.Info("Starting the marble server", "grpcAddr", s.cfg.MeshAddr)
	return part{
		name: "Marble API",
		serve: func() error {
			s.cfg.Log.Info("Started gRPC server", "grpcAddr", s.mesh.Addr().String())
			return server.Serve(listen.New(s.mesh, listen.Config{
				TLS: listen.MarbleAPI(c.MeshTLS), Failed: s.handshakeFailed("marble", slog.LevelDebug),
			}))
		},
		stop: server.Shutdown,
	}
}

func (s *Server) metricsPart(m *metrics.Metrics) part {
	server := &http.Server{
		Handler:           m,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), s.cfg.HTTPErrorLevel),
	}
	return part{
		name: "metrics",
		serve: func() error {
			s.cfg.Log.Info("Starting the metrics server", "address", s.metrics.Addr().String())
			return server.Serve(listen.New(s.metrics, listen.Config{Limits: listen.Limits{Connections: 64}}))
		},
		stop: drainHTTP(server),
	}
}

func drainHTTP(server *http.Server) func(context.Context) {
	return func(ctx context.Context) {
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // time is up: cut what is left
		}
	}
}

func (s *Server) handshakeFailed(api string, level slog.Level) func(net.Addr, error) {
	return func(remote net.Addr, err error) {
		s.cfg.Log.Log(context.Background(), level, fmt.Sprintf("http: TLS handshake error from %v: %v", remote, err), "api", api)
	}
}
