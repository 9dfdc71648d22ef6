// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/marblerun/marblerun/internal/server/listen"
)

type arrivalKey struct{}

// arrival is a request whose message has not arrived completely. gRPC collects the message in memory before anybody sees
// it, up to MaxMessage bytes, and has no deadline for that.
type arrival struct {
	pass  *listen.Pass
	timer *time.Timer
}

func (a *arrival) end() {
	a.timer.Stop()
	a.pass.Leave()
}

// arrive runs when a request's headers are there, before gRPC reads its message. Waiting here stops reading from this
// connection only.
func (s *Server) arrive(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	a := &arrival{pass: s.arriving.NewPass(cancel)}
	if !s.arriving.Enter(s.stopping, a.pass) {
		cancel()
		return ctx, status.Error(codes.Unavailable, "the Coordinator is shutting down")
	}
	a.timer = time.AfterFunc(s.cfg.Limits.ArrivalTimeout, cancel)
	// A request that never gets to the interceptor (unknown method, broken message) ends here.
	context.AfterFunc(ctx, a.end)
	return context.WithValue(ctx, arrivalKey{}, a), nil
}

// arrived ends the arrival of the request: from now on it takes the time that it needs.
func arrived(ctx context.Context) {
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok {
		a.end()
	}
}

// shaken are the gRPC credentials of connections that have their handshake behind them.
type shaken struct{}

// authInfo is what the handshake told.
type authInfo struct {
	credentials.CommonAuthInfo
	state tls.ConnectionState
}

// AuthType names the protocol.
func (authInfo) AuthType() string { return "tls" }

// ServerHandshake takes the connection as it is. A client that did not ask for HTTP/2 is no gRPC client.
func (shaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(tlsConn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection")
	}
	info := authInfo{state: t.ConnectionState()}
	info.SecurityLevel = credentials.PrivacyAndIntegrity
	if info.state.NegotiatedProtocol != "h2" {
		return nil, nil, errors.New("the client did not negotiate HTTP/2 (ALPN h2)")
	}
	return c, info, nil
}

// ClientHandshake is not for servers.
func (shaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials only")
}

// Info describes the credentials.
func (shaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns shaken: it has no state.
func (s shaken) Clone() credentials.TransportCredentials { return s }

// OverrideServerName does nothing.
func (shaken) OverrideServerName(string) error { return nil }
