// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command premain-libos is the entry program of a Marble under Gramine, Occlum, in a confidential VM, or as an ordinary
// process: it activates the Marble and then becomes its program. See docs/reference/premain.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/marblerun/marblerun/marble/premain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := premain.Main(ctx, premain.Real())
	stop()
	os.Exit(code)
}
