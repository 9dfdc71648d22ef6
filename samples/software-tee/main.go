// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command software-tee runs a software TEE, so that the verification of evidence can be seen and tested without
// hardware. It protects NOTHING: it gives evidence to whoever can connect to its sockets, for the workload that the
// socket is for, and does not look at who asks.
//
//	software-tee [-dir DIR] [-listen ADDR] [-manifest FILE] NAME=KIND[,OPTION]...
//
// A workload has a socket of its own, DIR/NAME.sock. Its kind is one of sgx-v3, sgx-v4, sgx-v5, tdx-v4, tdx-v5,
// tdx-v5-1.0, snp-v2, snp-v3, snp-v5. The options, with commas in between:
//
//	program=FILE   the content of FILE is what is measured, read once at start; else the name is
//	signer=NAME    SGX: who signed the enclave (its MRSIGNER is the SHA-256 of NAME; default "samples")
//	product=N      SGX: product id (default 1)
//	svn=N          SGX: security version (default 1)
//	status=STATUS  the TCB status of the machine, e.g. OutOfDate; it is another machine then (default UpToDate)
//	debug          the TEE's debug attribute is set
//
// At ADDR (default 127.0.0.1:8081) there is a collateral service: like a PCCS for SGX and TDX, like AMD's key
// distribution service for SNP. In DIR (default software-tee-data) it keeps its keys, and writes what others need:
//
//	roots.pem        the root certificates: what a verifier is given to believe this TEE
//	packages.json    a manifest's "Packages": what pins each workload, by its name
//	manifest.json    FILE with these packages: every Marble named like a workload gets that workload's package
//	NAME.evidence    evidence of a workload with report data of zeros, for "marblerun evidence"
//	era-config.json  the policy with which a CLI accepts the workload "coordinator"
//	coordinator.env  the environment of a Coordinator that is the workload "coordinator"
//	cli.flags        flags with which the CLI verifies under these roots: marblerun … $(cat DIR/cli.flags)
//	ready            there from when everything is served until the end
//
// A package or policy pins an SGX workload by signer, product id and security version if one of these three options is
// given, else by its UniqueID; one of TDX by MRTD, one of SNP by Measurement.
//
// Invariants: the root exists only in DIR and is nobody's default; the service listens where it is told, and on
// loopback if it is not; started again with the same DIR it has the same keys.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "software-tee:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	dir, listen, manifest string
	workloads             []workload
}

func parse(args []string, out io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("software-tee", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.dir, "dir", "software-tee-data", "folder for keys, sockets and what others need")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8081", "address of the collateral service")
	flags.StringVar(&o.manifest, "manifest", "", "manifest in JSON to write with this TEE's packages")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.workloads, err = parseWorkloads(flags.Args()); err != nil {
		return o, err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return o, err
	}
	for _, w := range o.workloads {
		if path := o.socket(w); len(path) > maxSocket {
			return o, fmt.Errorf("%s is too long for a socket, at most %d bytes: choose a shorter -dir", path, maxSocket)
		}
	}
	return o, nil
}

// maxSocket is the longest path of a Unix socket that all systems take, in bytes (macOS: 104 with the final zero).
const maxSocket = 103

const warning = `
  **********************************************************************
  *  SOFTWARE TEE: THIS PROTECTS NOTHING                               *
  *  Anybody on this machine can have evidence that says anything.     *
  *  Use it to try things out and for tests. Never trust its root      *
  *  where it matters.                                                 *
  **********************************************************************

`

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprint(out, warning)
	platform, err := softtee.LoadOrCreate(filepath.Join(o.dir, "keys"), softtee.Options{})
	if err != nil {
		return fmt.Errorf("keys of the software TEE: %w", err)
	}
	ready := filepath.Join(o.dir, "ready")
	if err := remove(ready); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = server.Run(ctx, server.Config{
		Platform: platform, Listen: o.listen, Sockets: o.sockets(),
		Ready: func(addr string) {
			if err := o.publish(platform, addr, out); err != nil {
				cancel(err)
			}
		},
	})
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return errors.Join(err, remove(ready))
}

// remove removes a file that may be there.
func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sockets is a socket for each workload.
func (o options) sockets() (list []server.Socket) {
	for _, w := range o.workloads {
		list = append(list, server.Socket{Path: o.socket(w), Kind: w.kind, Machine: w.machine, Workload: w.measured})
	}
	return list
}

func (o options) socket(w workload) string { return filepath.Join(o.dir, w.name+".sock") }
