// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command web is a sample Marble that faces the outside: an HTTPS server with a certificate that the Coordinator
// generated, and a note that it keeps encrypted with a key that only this Marble gets. It imports nothing of
// Marblerun: whatever it needs is in files and variables that premain-libos prepared, as the manifest says.
//
//	GET /        a greeting, from the file of the manifest
//	GET /status  who this is, as JSON
//	GET /note    the note
//	PUT /note    a new note, at most 4 KiB
//
// WEB_LISTEN is the address to listen on, default ":8443" (from the host); WEB_CONFIG the configuration file,
// WEB_CERTIFICATE and WEB_KEY the certificate chain and its key (from the manifest). The note is kept in WEB_DATA,
// default "note.sealed".
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	site, err := load(os.Getenv("WEB_CONFIG"), cmp.Or(os.Getenv("WEB_DATA"), "note.sealed"))
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr: cmp.Or(os.Getenv("WEB_LISTEN"), ":8443"), Handler: site,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Println("serving HTTPS on", server.Addr)
	err = server.ListenAndServeTLS(os.Getenv("WEB_CERTIFICATE"), os.Getenv("WEB_KEY"))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
