// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package program

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

	"github.com/marblerun/marblerun/internal/kube/inject/certs"
	"github.com/marblerun/marblerun/internal/kube/inject/metrics"
	"github.com/marblerun/marblerun/internal/server/listen"
)

// servers are the webhook and the metrics.
type servers struct {
	cfg         config
	log         *slog.Logger
	metrics     *metrics.Metrics
	certificate func() *tls.Certificate
	handler     http.Handler

	webhook, scrape net.Listener // scrape is nil if metrics are off
}

// bind takes the ports. Metrics are not worth refusing Pods: without their port there are none.
func (s *servers) bind(ctx context.Context) (err error) {
	var lc net.ListenConfig
	if s.webhook, err = lc.Listen(ctx, "tcp", s.cfg.listen); err != nil {
		return fmt.Errorf("binding the webhook (-listen): %w", err)
	}
	if s.cfg.metrics == "" {
		return nil
	}
	var failed error
	if s.scrape, failed = lc.Listen(ctx, "tcp", s.cfg.metrics); failed != nil {
		s.log.Warn("Cannot listen for metrics. Proceeding without them.", "address", s.cfg.metrics, "error", failed)
		s.scrape = nil
	}
	return nil
}

func (s *servers) metricsAddr() net.Addr {
	if s.scrape == nil {
		return nil
	}
	return s.scrape.Addr()
}

// serve serves until ctx ends, which is no error, or until something fails.
func (s *servers) serve(ctx context.Context) error {
	webhook := newHTTPServer(s.handler, s.log, s.cfg.httpLogging)
	all := []*http.Server{webhook}
	ended := make(chan error, 2)
	var running sync.WaitGroup
	running.Go(func() {
		ended <- webhook.Serve(listen.New(s.webhook, listen.Config{
			TLS: certs.TLS(s.certificate), Limits: listen.Limits{Connections: 128, Handshakes: 64}, Failed: s.handshakeFailed,
		}))
	})
	if s.scrape != nil {
		scrape := newHTTPServer(s.metrics, s.log, s.cfg.httpLogging)
		all = append(all, scrape)
		running.Go(func() {
			ended <- scrape.Serve(listen.New(s.scrape, listen.Config{Limits: listen.Limits{Connections: 16}}))
		})
	}
	s.log.Info("Starting Server", "address", s.webhook.Addr().String())
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.log.Info("Shutting down", "acceptingFor", s.cfg.lameDuck.String())
		select {
		case err = <-ended:
		case <-time.After(s.cfg.lameDuck):
		}
	}
	stop(all, s.cfg.drain)
	running.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// stop lets requests in work finish, all servers at once, and cuts what takes longer.
func stop(all []*http.Server, drain time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var stopping sync.WaitGroup
	for _, server := range all {
		stopping.Go(func() {
			if server.Shutdown(ctx) != nil {
				_ = server.Close() // time is up
			}
		})
	}
	stopping.Wait()
}

func (s *servers) handshakeFailed(remote net.Addr, err error) {
	s.metrics.HandshakeFailed()
	s.log.Log(context.Background(), s.cfg.httpLogging, fmt.Sprintf("http: TLS handshake error from %v: %v", remote, err))
}
