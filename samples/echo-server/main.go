// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command echo-server is a sample Marble: it says back what other Marbles say, over mutual TLS with the certificates
// that the Coordinator issued. Only Marbles of the type echo-client of the same mesh get in; there is no other access
// control.
//
// ECHO_LISTEN is the address to listen on, default ":7000".
package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/marblerun/marblerun/marble"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cmp.Or(os.Getenv("ECHO_LISTEN"), ":7000")); err != nil {
		fmt.Fprintln(os.Stderr, "echo-server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string) error {
	listener, err := marble.Listen("tcp", addr, "echo-client")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	fmt.Println("listening on", listener.Addr(), "for Marbles of type echo-client")
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			fmt.Println("accepting:", err)
			continue
		}
		go serve(conn.(*tls.Conn))
	}
}

// maxLine is the longest line in bytes, maxIdle the longest silence.
const (
	maxLine = 1 << 10
	maxIdle = 30 * time.Second
)

// serve answers lines until the client leaves.
func serve(conn *tls.Conn) {
	defer conn.Close()
	err := echo(conn)
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Printf("refused or lost %s: %v\n", conn.RemoteAddr(), err)
	}
}

func echo(conn *tls.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(maxIdle)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	peer, err := marble.PeerOf(conn.ConnectionState())
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		fmt.Printf("%s %s says %q\n", peer.Type, peer.UUID, lines.Text())
		if _, err := fmt.Fprintln(conn, lines.Text()); err != nil {
			return err
		}
		if err := conn.SetDeadline(time.Now().Add(maxIdle)); err != nil {
			return err
		}
	}
	return lines.Err()
}
