// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Forward runs kubectl port-forward to a port of a target such as svc/coordinator-client-api, and returns a loopback
// address. It ends with the test. It is bound to one Pod: after that has gone, forward again.
func (k *Kit) Forward(namespace, target string, port int) (addr string) {
	k.Helper()
	k.Eventually("port-forward to "+target+" works", func(ctx context.Context) error {
		var err error
		addr, err = k.forward(namespace, target, port)
		return err
	})
	return addr
}

func (k *Kit) forward(namespace, target string, port int) (string, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.Context()))
	cmd := k.command(ctx, Command{Args: []string{"kubectl", "-n", namespace, "port-forward", "--address", "127.0.0.1", target,
		fmt.Sprintf(":%d", port)}})
	out, in, err := os.Pipe()
	if err != nil {
		cancel()
		return "", err
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		cancel()
		out.Close()
		return "", err
	}
	first := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() { firstLine(out, first) })
	end := func() {
		cancel()
		_ = cmd.Wait() // it was killed
		reading.Wait()
		out.Close()
	}
	var local int
	line := ""
	select {
	case line = <-first:
	case <-time.After(30 * time.Second):
		line = "nothing is printed"
	}
	if _, err := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d ->", &local); err != nil {
		end()
		return "", fmt.Errorf("kubectl port-forward: %s", line)
	}
	k.Cleanup(end)
	return fmt.Sprintf("127.0.0.1:%d", local), nil
}

// firstLine sends the first line and reads the others, so that the process never waits.
func firstLine(out *os.File, first chan<- string) {
	s := bufio.NewScanner(out)
	if !s.Scan() {
		first <- "it ended without a word"
		return
	}
	first <- strings.TrimSpace(s.Text())
	for s.Scan() {
		continue
	}
}

// Repository serves a folder with an index.yaml, e.g. Dist("charts"), as a Helm repository on loopback and returns its
// URL.
func (k *Kit) Repository(folder string) string {
	k.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(folder)), ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // until closed
	k.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return "http://" + l.Addr().String()
}
