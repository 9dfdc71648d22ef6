// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command coordinator is the control plane. It has no flags: the environment is read once (config.go), and
// docs/reference/environment.md explains every variable. It ends with 0 after SIGTERM or SIGINT, and with 1 after
// anything that it cannot live with, which the last log line explains.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Set by the linker (-X main.version=1.2.3 -X main.commit=<40 hex digits>).
var version, commit = "0.0.0-dev", "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if !run(ctx, thisProcess()) {
		os.Exit(1)
	}
}
