// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject/metrics"
)

// serving starts servers around a handler; ended delivers what serve returns.
func serving(t *testing.T, ctx context.Context, handler http.HandlerFunc, lameDuck time.Duration,
) (s *servers, ended chan error) {
	t.Helper()
	_, cert, key := selfSigned(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s = &servers{
		cfg: config{listen: "127.0.0.1:0", lameDuck: lameDuck, drain: time.Minute}, log: slog.New(slog.DiscardHandler),
		metrics: metrics.New("", ""), certificate: func() *tls.Certificate { return &pair }, handler: handler,
	}
	if err := s.bind(ctx); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	return s, ended
}

func (s *servers) get(t *testing.T) (string, error) {
	pair := s.certificate()
	client := trusting(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), "injector")
	answer, err := client.Get("https://" + s.webhook.Addr().String())
	if err != nil {
		return "", err
	}
	return body(t, answer, nil), nil
}

func TestRequestsInWorkAreFinished(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered, release := make(chan struct{}), make(chan struct{})
	s, ended := serving(t, ctx, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "finished") // what arrived is checked
	}, 0)
	got := make(chan string, 1)
	go func() {
		text, err := s.get(t)
		got <- fmt.Sprint(text, err)
	}()
	<-entered
	cancel()
	for { // until nothing is accepted any more
		c, err := net.Dial("tcp", s.webhook.Addr().String())
		if err != nil {
			break
		}
		_ = c.Close()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended with a request in work: %v", err)
	default:
	}
	close(release)
	if text := <-got; text != "finished<nil>" {
		t.Error(text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRequestsAreAcceptedForAWhileAfterTheSignal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, ended := serving(t, ctx, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "late") // what arrived is checked
	}, time.Hour)
	cancel()
	if text, err := s.get(t); text != "late" || err != nil {
		t.Error(text, err)
	}
	if err := s.webhook.Close(); err != nil { // instead of waiting for an hour
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a listener that breaks is no error")
	}
}
