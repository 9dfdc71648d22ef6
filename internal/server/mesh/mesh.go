// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package mesh serves the Marble API: gRPC over connections whose TLS handshake package listen has done
// (marble-api.md §1, §2, §4).
//
// It translates and never decides: the Coordinator's refusals become gRPC codes, its messages pass unchanged.
//
// Invariants:
//
//   - Nothing expensive happens before a request has arrived completely, within Limits.ArrivalTimeout, and within its size
//     limits. Requests that are arriving hold a bounded number of places; the slowest make room for others.
//   - A request in work never waits for another one here. Whatever serialises requests is the Coordinator's business.
//   - A panic ends its request with codes.Internal and nothing else.
package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/logging"
	"github.com/marblerun/marblerun/internal/server/listen"
)

// Sizes of requests, in bytes.
const (
	// MaxMessage bounds a request message (marble-api.md §1: the default of gRPC).
	MaxMessage = 4 << 20
	// MaxEvidence bounds the evidence. Real quotes are below 16 KiB.
	MaxEvidence = 64 << 10
)

// Activator admits Marbles.
type Activator interface {
	Activate(ctx context.Context, req coordinator.ActivateRequest) (*marblepb.Parameters, error)
}

// Observer counts activations; see package metrics.
type Observer interface {
	Activation(marbleType string) (end func(code codes.Code, uuid string, evidence []byte))
}

// Limits bound what strangers can hold. The zero value of a field means its default.
type Limits struct {
	// Arriving is how many requests may be arriving at once; default 256. More wait.
	Arriving int
	// ArrivalTimeout is how long a request may take to arrive; default 10 s.
	ArrivalTimeout time.Duration
	// ArrivalGrace is how long an arriving request is safe when all places are taken; default 3 s.
	ArrivalGrace time.Duration
	// StreamsPerConnection default 16.
	StreamsPerConnection uint32
	// Idle ends a connection without requests; default 2 min.
	Idle time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Arriving == 0 {
		l.Arriving = 256
	}
	if l.ArrivalTimeout == 0 {
		l.ArrivalTimeout = 10 * time.Second
	}
	if l.ArrivalGrace == 0 {
		l.ArrivalGrace = 3 * time.Second
	}
	if l.StreamsPerConnection == 0 {
		l.StreamsPerConnection = 16
	}
	if l.Idle == 0 {
		l.Idle = 2 * time.Minute
	}
	return l
}

// Config of a Server.
type Config struct {
	Activator Activator
	// Observer may be nil.
	Observer Observer
	Log      *slog.Logger
	Limits   Limits
}

// Server serves the Marble API.
type Server struct {
	marblepb.UnimplementedMarbleServer
	cfg      Config
	grpc     *grpc.Server
	arriving *listen.Turnstile
	stopping chan struct{}
	stop     func() // closes stopping, once
}

// New returns a server. Serve it with a listen.Listener whose TLS configuration is listen.MarbleAPI.
func New(cfg Config) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{
		cfg: cfg, stopping: make(chan struct{}),
		arriving: listen.NewTurnstile(cfg.Limits.Arriving, cfg.Limits.ArrivalGrace),
	}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	s.grpc = grpc.NewServer(
		grpc.Creds(shaken{}),
		grpc.InTapHandle(s.arrive),
		grpc.UnaryInterceptor(s.intercept),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(cfg.Limits.StreamsPerConnection),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(cfg.Limits.ArrivalTimeout), // for the HTTP/2 preface
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: cfg.Limits.Idle, Time: time.Minute, Timeout: 20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		// A connection carries one request of a few KiB: small buffers, and no bandwidth estimation by pings.
		grpc.ReadBufferSize(8<<10), grpc.WriteBufferSize(8<<10),
		grpc.StaticStreamWindowSize(128<<10), grpc.StaticConnWindowSize(256<<10),
		grpc.WaitForHandlers(true),
	)
	marblepb.RegisterMarbleServer(s.grpc, s)
	return s
}

// Serve answers requests until Shutdown. It owns l.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Shutdown stops accepting and waits for the requests in work until ctx ends; then it cancels them.
func (s *Server) Shutdown(ctx context.Context) {
	s.stop()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
	}
}

// Activate implements the RPC. The interceptor has named the request, and turns panics into errors.
func (s *Server) Activate(ctx context.Context, req *marblepb.ActivationReq) (*marblepb.ActivationResp, error) {
	if n := len(req.GetQuote()); n > MaxEvidence {
		return nil, status.Errorf(codes.InvalidArgument, "evidence is %d bytes, at most %d are allowed", n, MaxEvidence)
	}
	params, err := s.cfg.Activator.Activate(ctx, coordinator.ActivateRequest{
		PeerCertificate: peerCertificate(ctx), Evidence: req.GetQuote(), CSR: req.GetCSR(),
		MarbleType: req.GetMarbleType(), UUID: req.GetUUID(),
	})
	if err != nil {
		return nil, s.refusal(ctx, err)
	}
	return &marblepb.ActivationResp{Parameters: params}, nil
}

// intercept surrounds each RPC whose request has arrived.
func (s *Server) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (
	resp any, err error,
) {
	arrived(ctx)
	id := logging.NewRequestID()
	ctx = coordinator.WithRequestID(logging.WithRequestID(ctx, id), id)
	if r, ok := req.(*marblepb.ActivationReq); ok && s.cfg.Observer != nil {
		end := s.cfg.Observer.Activation(r.GetMarbleType())
		defer func() { end(status.Code(err), canonical(r.GetUUID()), r.GetQuote()) }()
	}
	defer func() {
		if p := recover(); p != nil {
			s.logPanic(ctx, p)
			resp, err = nil, internal(id)
		}
	}()
	return handle(ctx, req)
}

// logPanic says where it happened. The value itself may hold anything, so only that of a runtime error is shown.
func (s *Server) logPanic(ctx context.Context, p any) {
	what := fmt.Sprintf("%T", p)
	var re runtime.Error
	if e, ok := p.(error); ok && errors.As(e, &re) {
		what = re.Error()
	}
	s.cfg.Log.ErrorContext(ctx, "Panic in a request of the Marble API", "panic", what, "stack", string(debug.Stack()))
}

func internal(requestID string) error {
	return status.Errorf(codes.Internal, "internal error, see the Coordinator's log (request %s)", requestID)
}

// canonical is the UUID as the Coordinator uses it; refused spellings have none.
func canonical(text string) string {
	id, err := uuid.Parse(text)
	if err != nil {
		return ""
	}
	return id.String()
}

// peerCertificate is the DER of the TLS client certificate, nil without one.
func peerCertificate(ctx context.Context) []byte {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(authInfo)
	if !ok || len(info.state.PeerCertificates) == 0 {
		return nil
	}
	return info.state.PeerCertificates[0].Raw
}

// tlsConn is what package listen accepts.
type tlsConn interface {
	net.Conn
	ConnectionState() tls.ConnectionState
}
