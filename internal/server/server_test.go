// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/seal"
)

// scripted is a real Coordinator of which the test replaces two methods.
type scripted struct {
	*coordinator.Coordinator
	fatal chan error
	work  func()
}

func (s *scripted) Fatal() <-chan error { return s.fatal }

func (s *scripted) SetManifest(context.Context, []byte) (map[string][]byte, error) {
	s.work()
	return nil, nil
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	c, err := coordinator.New(t.Context(), coordinator.Config{
		SealDir: t.TempDir(), Simulation: true, TEE: "simulation", Sealers: seal.Simulation(),
		FeatureEnvironment: func(string) string { return "" },
		Now:                time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return &scripted{Coordinator: c, fatal: make(chan error, 1), work: func() {}}
}

func listenAnywhere(t *testing.T, drain time.Duration) *Server {
	t.Helper()
	s, err := Listen(t.Context(), Config{
		ClientAddr: "127.0.0.1:0", MeshAddr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0",
		Log: slog.New(slog.DiscardHandler), DrainTimeout: drain,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
}

func TestFatalErrorsEndServing(t *testing.T) {
	c, s := newScripted(t), listenAnywhere(t, time.Minute)
	broken := errors.New("the disk")
	c.fatal <- broken
	if err := s.Serve(t.Context(), c); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// What is in work is finished, nothing new is accepted, and then Serve returns.
func TestShutdownDrains(t *testing.T) {
	c, s := newScripted(t), listenAnywhere(t, time.Minute)
	working, release := make(chan struct{}), make(chan struct{})
	c.work = func() { close(working); <-release }
	ctx, cancel := context.WithCancel(t.Context())
	served, answered := make(chan error, 1), make(chan int, 1)
	go func() { served <- s.Serve(ctx, c) }()
	go func() {
		resp, err := httpClient().Post("https://"+s.ClientAddr().String()+"/manifest", "", strings.NewReader("{}"))
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-working
	cancel()
	for refusesConnections(s.ClientAddr()) == nil {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-served:
		t.Errorf("ended with a request in work: %v", err)
	default:
	}
	close(release)
	if code := <-answered; code != 200 {
		t.Errorf("the request in work: %d", code)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// refusesConnections returns an error once nobody listens.
func refusesConnections(addr net.Addr) error {
	c, err := net.Dial("tcp", addr.String())
	if err == nil {
		_ = c.Close()
	}
	return err
}

// What does not finish in time is cut.
func TestShutdownEnds(t *testing.T) {
	c, s := newScripted(t), listenAnywhere(t, 50*time.Millisecond)
	working, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	c.work = func() { close(working); <-release }
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, c) }()
	go func() {
		_, _ = httpClient().Post("https://"+s.ClientAddr().String()+"/manifest", "", strings.NewReader("{}"))
	}()
	<-working
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestAPortAlreadyTakenGivesTheOthersBack(t *testing.T) {
	first := listenAnywhere(t, 0)
	defer first.Close()
	cfg := first.cfg
	cfg.ClientAddr, cfg.MeshAddr = "127.0.0.1:0", first.MeshAddr().String()
	if _, err := Listen(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "EDG_COORDINATOR_MESH_ADDR") {
		t.Errorf("got %v", err)
	}
}

func TestMetricsAreOptional(t *testing.T) {
	s, err := Listen(t.Context(), Config{ClientAddr: "127.0.0.1:0", MeshAddr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if s.MetricsAddr() != nil {
		t.Error("metrics without an address")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
