// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/logging"
	"github.com/marblerun/marblerun/internal/server/listen"
)

// activator is a scripted Coordinator.
type activator func(context.Context, coordinator.ActivateRequest) (*marblepb.Parameters, error)

func (a activator) Activate(ctx context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
	return a(ctx, r)
}

func refuseWith(err error) activator {
	return func(context.Context, coordinator.ActivateRequest) (*marblepb.Parameters, error) { return nil, err }
}

func accept(context.Context, coordinator.ActivateRequest) (*marblepb.Parameters, error) {
	return &marblepb.Parameters{Argv: []string{"welcome"}}, nil
}

// lines collects log lines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// start serves cfg on a random port.
func start(t *testing.T, cfg Config) (addr string, s *Server) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cert := certificate(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listen.New(inner, listen.Config{TLS: listen.MarbleAPI(func() *tls.Certificate { return &cert })})
	s = New(cfg)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return inner.Addr().String(), s
}

func client(t *testing.T, addr string, certs ...tls.Certificate) marblepb.MarbleClient {
	t.Helper()
	creds := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: certs})
	conn, err := grpc.NewClient("passthrough:"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return marblepb.NewMarbleClient(conn)
}

func TestRequestAndReplyPassUnchanged(t *testing.T) {
	cert := certificate(t)
	var got coordinator.ActivateRequest
	addr, _ := start(t, Config{
		Activator: activator(func(_ context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
			got = r
			return &marblepb.Parameters{
				Argv: []string{"a"}, Env: map[string][]byte{"E": {0, 0xff}}, Files: map[string][]byte{"/f": []byte("x")},
			}, nil
		}),
	})
	resp, err := client(t, addr, cert).Activate(t.Context(), &marblepb.ActivationReq{
		Quote: []byte("q"), CSR: []byte("c"), MarbleType: "web", UUID: "U",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := coordinator.ActivateRequest{
		PeerCertificate: cert.Certificate[0], Evidence: []byte("q"), CSR: []byte("c"), MarbleType: "web", UUID: "U",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p := resp.GetParameters(); p.GetArgv()[0] != "a" || string(p.GetEnv()["E"]) != "\x00\xff" || string(p.GetFiles()["/f"]) != "x" {
		t.Errorf("reply %v", p)
	}
}

// marble-api.md §4: codes are contractual, messages are the Coordinator's.
func TestRefusals(t *testing.T) {
	refusal := func(code coordinator.Code, message string) error {
		return fmt.Errorf("wrapped: %w", &coordinator.Error{Code: code, Message: message})
	}
	tests := []struct {
		err     error
		code    codes.Code
		message string
	}{
		{refusal(coordinator.WrongState, "cannot accept marbles in current state"), codes.FailedPrecondition, ""},
		{refusal(coordinator.NoPeerCertificate, "couldn't get marble TLS certificate"), codes.Unauthenticated, ""},
		{refusal(coordinator.RefusedMarble, "marble verification failed: unknown marble type requested"), codes.PermissionDenied, ""},
		{refusal(coordinator.BadUUID, "invalid UUID: invalid UUID length: 7"), codes.InvalidArgument, ""},
		{refusal(coordinator.Internal, "generating marble secrets: no"), codes.Internal, ""},
		{refusal(coordinator.Unavailable, "the disk is full"), codes.Unavailable, ""},
		{
			&coordinator.Error{Code: coordinator.RefusedMarble, Message: "m", Hint: "do this"},
			codes.PermissionDenied, "m (do this)",
		},
		{fmt.Errorf("x: %w", context.Canceled), codes.Canceled, "the request was canceled"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "the request's deadline has passed"},
	}
	for _, tt := range tests {
		addr, _ := start(t, Config{Activator: refuseWith(tt.err)})
		_, err := client(t, addr, certificate(t)).Activate(t.Context(), &marblepb.ActivationReq{})
		want := tt.message
		if want == "" {
			want = strings.TrimPrefix(tt.err.Error(), "wrapped: ")
		}
		if got := status.Convert(err); got.Code() != tt.code || got.Message() != want {
			t.Errorf("%v: got %v %q", tt.err, got.Code(), got.Message())
		}
	}
}

func TestUnclassifiedErrorsAreLoggedNotSent(t *testing.T) {
	var log lines
	addr, _ := start(t, Config{Activator: refuseWith(errors.New("/var/lib: detail")), Log: logging.New(&log, logging.Options{})})
	_, err := client(t, addr, certificate(t)).Activate(t.Context(), &marblepb.ActivationReq{})
	got := status.Convert(err)
	if got.Code() != codes.Internal || strings.Contains(got.Message(), "detail") {
		t.Errorf("got %v", got)
	}
	_, id, _ := strings.Cut(strings.TrimSuffix(got.Message(), ")"), "(request ")
	if !strings.Contains(log.String(), "detail") || !strings.Contains(log.String(), `"requestID":"`+id+`"`) {
		t.Errorf("request %q is not in the log: %s", id, log.String())
	}
}

func TestPanicsEndTheirRequestOnly(t *testing.T) {
	var log lines
	boom := true
	addr, _ := start(t, Config{
		Activator: activator(func(ctx context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
			if boom {
				panic("the secret is swordfish")
			}
			return accept(ctx, r)
		}),
		Log: logging.New(&log, logging.Options{}),
	})
	c := client(t, addr, certificate(t))
	if _, err := c.Activate(t.Context(), &marblepb.ActivationReq{}); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	if strings.Contains(log.String(), "swordfish") || !strings.Contains(log.String(), "mesh_test.go") {
		t.Errorf("the log has the value, or not the place: %s", log.String())
	}
	boom = false
	if _, err := c.Activate(t.Context(), &marblepb.ActivationReq{}); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

func TestSizeLimits(t *testing.T) {
	asked := false
	addr, _ := start(t, Config{
		Activator: activator(func(ctx context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
			asked = true
			return accept(ctx, r)
		}),
	})
	c := client(t, addr, certificate(t))
	tests := []struct {
		name string
		req  *marblepb.ActivationReq
		code codes.Code
	}{
		{"evidence at the limit", &marblepb.ActivationReq{Quote: make([]byte, MaxEvidence)}, codes.OK},
		{"evidence above", &marblepb.ActivationReq{Quote: make([]byte, MaxEvidence+1)}, codes.InvalidArgument},
		{"message above", &marblepb.ActivationReq{CSR: make([]byte, MaxMessage)}, codes.ResourceExhausted},
	}
	for _, tt := range tests {
		asked = false
		_, err := c.Activate(t.Context(), tt.req)
		if status.Code(err) != tt.code || asked != (tt.code == codes.OK) {
			t.Errorf("%s: %v, Coordinator asked: %v", tt.name, err, asked)
		}
	}
}

func TestAClientCertificateIsRequired(t *testing.T) {
	addr, _ := start(t, Config{Activator: activator(accept)})
	_, err := client(t, addr).Activate(t.Context(), &marblepb.ActivationReq{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("got %v", err)
	}
}

func TestSlowWorkDelaysNobodyElse(t *testing.T) {
	release := make(chan struct{})
	addr, _ := start(t, Config{
		Activator: activator(func(ctx context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
			if r.MarbleType == "slow" {
				<-release
			}
			return accept(ctx, r)
		}),
		Limits: Limits{Arriving: 2, ArrivalGrace: time.Hour},
	})
	cert := certificate(t)
	c := client(t, addr, cert)
	var slow sync.WaitGroup
	for range 10 { // more than there are places to arrive
		slow.Go(func() {
			if _, err := c.Activate(t.Context(), &marblepb.ActivationReq{MarbleType: "slow"}); err != nil {
				t.Errorf("slow: %v", err)
			}
		})
	}
	for range 10 {
		if _, err := c.Activate(t.Context(), &marblepb.ActivationReq{MarbleType: "quick"}); err != nil {
			t.Errorf("quick: %v", err)
		}
	}
	close(release)
	slow.Wait()
}

// observer notes what it is told.
type observer struct {
	mu  sync.Mutex
	got []string
}

func (o *observer) Activation(marbleType string) func(codes.Code, string, []byte) {
	return func(c codes.Code, id string, evidence []byte) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.got = append(o.got, fmt.Sprint(marbleType, " ", c, " ", id, " ", string(evidence)))
	}
}

func TestObserverSeesEveryOutcome(t *testing.T) {
	var o observer
	addr, s := start(t, Config{
		Observer: &o,
		Activator: activator(func(ctx context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
			switch r.MarbleType {
			case "panic":
				panic("x")
			case "no":
				return nil, &coordinator.Error{Code: coordinator.RefusedMarble}
			}
			return accept(ctx, r)
		}),
	})
	c := client(t, addr, certificate(t))
	for _, marbleType := range []string{"web", "no", "panic"} {
		_, _ = c.Activate(t.Context(), &marblepb.ActivationReq{
			MarbleType: marbleType, UUID: "{0000000A-0000-0000-0000-000000000001}", Quote: []byte("e"),
		})
	}
	s.Shutdown(t.Context())
	const id = "0000000a-0000-0000-0000-000000000001"
	want := []string{"web OK " + id + " e", "no PermissionDenied " + id + " e", "panic Internal " + id + " e"}
	if diff := cmp.Diff(want, o.got); diff != "" {
		t.Error(diff)
	}
}

func TestShutdownWaitsForRequestsInWork(t *testing.T) {
	working, release := make(chan struct{}), make(chan struct{})
	addr, s := start(t, Config{
		Activator: activator(func(ctx context.Context, r coordinator.ActivateRequest) (*marblepb.Parameters, error) {
			close(working)
			<-release
			return accept(ctx, r)
		}),
	})
	answered := make(chan error, 1)
	c := client(t, addr, certificate(t))
	go func() {
		_, err := c.Activate(t.Context(), &marblepb.ActivationReq{})
		answered <- err
	}()
	<-working
	down := make(chan struct{})
	go func() { s.Shutdown(t.Context()); close(down) }()
	select {
	case <-down:
		t.Error("shut down with a request in work")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request in work: %v", err)
	}
	<-down
}
