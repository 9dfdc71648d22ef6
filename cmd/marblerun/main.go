// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command marblerun is what people hold in their hands. All it does is in package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/internal/cli"
)

// Set by the linker (-X main.version=1.2.3 -X main.commit=<40 hex digits>).
var version, commit = "0.0.0-dev", "unknown"

func main() {
	cobra.EnableCommandSorting = false // help lists commands in the order of use
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, cli.OS("v"+version, commit))
	stop()
	os.Exit(code)
}
