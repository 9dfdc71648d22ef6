// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command release makes what a release consists of, without a container engine: programs, OCI images, SBOMs, and a
// Helm repository.
//
//	go run ./release [-version 0.1.0] [-out dist] [-only bin,images,sbom,charts] [-platforms linux/amd64]
//
// "make release" runs all of it, "make images" the images. docs/howto/release.md tells how to publish the result
// and how to check that it is the same that others get.
//
// Invariants:
//   - Everything in dist is reproducible: the same commit and the same Go release give the same bytes, wherever and
//     whenever they are made. The one time that appears is SOURCE_DATE_EPOCH or, without it, that of the commit.
//   - What a release says about its version is the same everywhere: Makefile and chart are compared before anything
//     is made.
//   - Nothing leaves this machine unless -push says where to.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
