// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"

	"github.com/marblerun/marblerun/internal/coordinator"
)

// gates of the expensive endpoints that anyone may call.
type gates struct {
	quote, signQuote, manifest, recover, history *gate
}

func newGates(processors int) gates {
	return gates{
		quote:     newGate(2*processors, 64),
		signQuote: newGate(processors, 64),
		manifest:  newGate(2, 16), // the Coordinator prepares one at a time
		recover:   newGate(processors, 64),
		history:   newGate(4*processors, 64),
	}
}

// gate lets a number of calls run and a number of calls wait.
type gate struct {
	running, all chan struct{}
}

func newGate(run, wait int) *gate {
	return &gate{running: make(chan struct{}, run), all: make(chan struct{}, run+wait)}
}

// enter waits for its turn. leave must be called once.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.all <- struct{}{}:
	default:
		return nil, refuse(coordinator.Unavailable, "too many requests of this kind are waiting, try again later")
	}
	select {
	case g.running <- struct{}{}:
		return func() { <-g.running; <-g.all }, nil
	case <-ctx.Done():
		<-g.all
		return nil, refuse(coordinator.Unavailable, "the request was canceled while it waited for its turn")
	}
}
