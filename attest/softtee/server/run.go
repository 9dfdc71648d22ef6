// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/issuersock"
)

// Config says what Run offers.
type Config struct {
	Platform *softtee.Platform
	// Listen is the TCP address of the collateral service, e.g. "127.0.0.1:0"; "" is none.
	Listen string
	// Sockets are the evidence issuers. Who can connect gets evidence as the socket's workload: one socket a program.
	Sockets []Socket
	// Ready is called once with the collateral service's address ("" without one), when everything listens; may be nil.
	Ready func(addr string)
	// Log is told what is served; nil is silence.
	Log *slog.Logger
}

// Socket is a Unix socket at which evidence is issued, for one simulated machine and workload.
type Socket struct {
	// Path of the socket, made with mode 0600. A stale socket there is removed.
	Path string
	// Kind is issued to clients that ask for none in particular; "" is SGXv3.
	Kind     softtee.Kind
	Machine  softtee.Machine
	Workload softtee.Workload
}

const (
	issueTimeout = 10 * time.Second // for one exchange on a socket
	stopTimeout  = 5 * time.Second  // for requests that are under way at the end
)

// Run serves until ctx ends, then returns nil. It returns an error if something cannot be served.
func Run(ctx context.Context, c Config) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop(nil)
	addr, err := c.serveHTTP(ctx, &running, stop)
	if err != nil {
		return err
	}
	for _, s := range c.Sockets {
		if err := c.serveSocket(ctx, &running, s); err != nil {
			return err
		}
	}
	if c.Ready != nil {
		c.Ready(addr)
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

func (c Config) serveHTTP(ctx context.Context, running *sync.WaitGroup, stop context.CancelCauseFunc) (string, error) {
	if c.Listen == "" {
		return "", nil
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return "", fmt.Errorf("serving simulated collateral: %w", err)
	}
	server := &http.Server{Handler: New(c.Platform), ReadHeaderTimeout: issueTimeout}
	running.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			stop(fmt.Errorf("serving simulated collateral: %w", err))
		}
	})
	running.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			c.Log.Warn("stopping the simulated collateral service", "error", err)
		}
	})
	c.Log.Warn("serving SIMULATED collateral", "address", l.Addr().String())
	return l.Addr().String(), nil
}

func (c Config) serveSocket(ctx context.Context, running *sync.WaitGroup, s Socket) error {
	if s.Kind == "" {
		s.Kind = softtee.SGXv3
	}
	l, err := listenUnix(s.Path)
	if err != nil {
		return fmt.Errorf("serving simulated evidence: %w", err)
	}
	running.Go(func() {
		<-ctx.Done()
		_ = l.Close() // ends Accept below; there is nobody to tell
	})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			} else if err != nil {
				c.Log.Warn("accepting on the simulated evidence socket", "error", err)
				continue
			}
			running.Go(func() { c.issue(conn, s) })
		}
	})
	c.Log.Warn("issuing SIMULATED evidence", "socket", s.Path, "kind", s.Kind, "machine", s.Machine.Name)
	return nil
}

// listenUnix listens with mode 0600 and takes the place of a socket that nobody serves any more.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("%s is served by another process", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing a stale socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// issue answers one request on a connection.
func (c Config) issue(conn net.Conn, s Socket) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(issueTimeout)); err != nil {
		c.Log.Warn("issuing simulated evidence", "error", err)
		return
	}
	kind, reportData, err := issuersock.ReadRequest(conn)
	if err != nil {
		c.Log.Warn("issuing simulated evidence", "error", err)
		return
	}
	if kind == "" {
		kind = string(s.Kind)
	}
	evidence, err := c.Platform.Evidence(softtee.Request{Kind: softtee.Kind(kind), Machine: s.Machine,
		Workload: s.Workload, ReportData: reportData})
	if err := issuersock.WriteReply(conn, issuersock.Evidence{Kind: kind, Data: evidence}, err); err != nil {
		c.Log.Warn("issuing simulated evidence", "error", err)
	}
}
