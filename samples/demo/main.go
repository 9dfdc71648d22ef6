// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command demo shows Marblerun at work on this machine, step by step: "make demo".
//
// It builds the programs, starts a software TEE, a Coordinator and the sample Marbles as separate processes in a
// temporary folder, verifies their evidence, and then does to them what happens in real life: a client verifies the
// chain, the Coordinator dies and comes back, a Marble restarts, strangers and wrong programs try to get in. Each step
// is checked; the first that fails ends the demo with exit code 1 and the end of the log that matters.
//
// Invariants: it needs only Go; it listens on loopback, on free ports; it ends only processes that it started; it
// leaves nothing behind, unless KEEP=1 asks for it. It drives the same binaries and the same CLI that people use, and
// never looks inside them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := 0
	if err := run(ctx, newScreen(os.Stdout, os.Getenv), os.Getenv("KEEP") == "1"); err != nil {
		code = 1
	}
	stop()
	os.Exit(code)
}

// run shows all steps. Its error has been shown already.
func run(ctx context.Context, out *screen, keep bool) (err error) {
	d, err := newDemo(out, keep)
	if err != nil {
		out.failure("preparing the demo", err)
		return err
	}
	defer d.cleanUp()
	begin := time.Now()
	out.welcome()
	all := steps()
	for i, s := range all {
		if err := d.show(ctx, i+1, len(all), s); err != nil {
			return err
		}
	}
	out.farewell(time.Since(begin))
	if keep {
		return d.explainKept()
	}
	return nil
}

// step is one thing to see.
type step struct {
	title string
	// do does it and returns one sentence: what it proves.
	do func(context.Context, *demo) (string, error)
}

// show runs one step and presents it.
func (d *demo) show(ctx context.Context, n, of int, s step) error {
	begin := time.Now()
	d.out.title(n, of, s.title)
	d.concerned = nil
	proof, err := s.do(ctx, d)
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted")
	}
	if err != nil {
		d.out.failure(s.title, err)
		for _, p := range d.suspects() {
			d.out.tail(p.name, p.tail(15))
		}
		return err
	}
	d.out.proof(proof, time.Since(begin))
	return nil
}
