// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command echo-client is a sample Marble: once a second it says something to the echo-server, over mutual TLS with the
// certificates that the Coordinator issued, and prints what comes back.
//
// ECHO_SERVER is the server's address, default "localhost:7000"; its host must be a name in the server's certificate.
// ECHO_INTERVAL is the pause in between as a Go duration, default "1s".
package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/marblerun/marblerun/marble"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, interval := cmp.Or(os.Getenv("ECHO_SERVER"), "localhost:7000"), cmp.Or(os.Getenv("ECHO_INTERVAL"), "1s")
	if err := run(ctx, server, interval); err != nil {
		fmt.Fprintln(os.Stderr, "echo-client:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, interval string) error {
	pause, err := time.ParseDuration(interval)
	if err != nil || pause <= 0 {
		return fmt.Errorf("ECHO_INTERVAL %q is no positive duration", interval)
	}
	for n := 1; ctx.Err() == nil; n++ {
		reply, err := say(ctx, addr, fmt.Sprintf("hello %d", n))
		if err != nil {
			fmt.Println("no answer:", err)
		} else {
			fmt.Println(reply)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// timeout bounds one exchange.
const timeout = 5 * time.Second

// say makes a new connection, so that each exchange is authenticated anew.
func say(ctx context.Context, addr, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := marble.Dial(ctx, "tcp", addr, "echo-server")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, text); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	peer, err := marble.PeerOf(conn.ConnectionState())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s answers %q", peer.Type, peer.UUID, strings.TrimSpace(answer)), nil
}
