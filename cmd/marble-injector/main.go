// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command marble-injector is the Kubernetes admission webhook that makes Marbles of Pods. See
// docs/reference/injector.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
	"github.com/marblerun/marblerun/internal/kube/inject/program"
)

// Set by the linker (-X main.version=1.2.3 -X main.commit=<40 hex digits>).
var version, commit = "0.0.0-dev", "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(program.Run(ctx, program.Process{
		Args: os.Args[1:], Getenv: os.Getenv, Stderr: os.Stderr, Version: version, Commit: commit,
		ServiceAccount: kubeapi.ServiceAccount,
	}))
}
