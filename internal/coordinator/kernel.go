// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marblerun/marblerun/internal/vault"
)

const (
	// queueLength bounds the decisions that wait for the writer.
	queueLength = 1024
	// groupLength bounds the decisions of one synced write.
	groupLength = 256
	// groupBytes closes a group early.
	groupBytes = 4 << 20
	// prepareTries bounds how often a verb prepares again because what it read was replaced meanwhile.
	prepareTries = 8
)

// errStale is a decision's refusal of a preparation whose read set changed: prepare again.
var errStale = errors.New("preparation is stale")

// decision looks at the current state and returns events or a refusal. It is pure, fast, and may run twice.
type decision func(*State) (outcome, error)

// outcome is what a decision wants to be written.
type outcome struct {
	events []event
	// epoch, if set, makes the write start a new epoch of the vault, or change its slots.
	epoch *epochChange
}

// epochChange says how the keys to the journal change together with the events.
type epochChange struct {
	sealMode string
	// rekey starts a new epoch with this recovery secret and metadata; otherwise only the seal mode changes.
	rekey          bool
	recoverySecret []byte
	recoveryMeta   []byte
}

// kernel is the single writer over the journal, and the current state for everybody else.
type kernel struct {
	vault *vault.Vault
	now   func() time.Time
	log   *slog.Logger
	state atomic.Pointer[State]

	queue chan *proposal
	stop  chan struct{}
	done  chan struct{}
	// fatal receives the error after which the process must end and let replay decide.
	fatal chan<- error

	failing      bool // the last write failed; the writer's own
	snapshotting atomic.Bool
	background   sync.WaitGroup
}

// proposal is a decision on its way through the writer.
type proposal struct {
	actor, request string
	decide         decision
	answer         chan answer
}

type answer struct {
	state *State
	err   error
}

func newKernel(v *vault.Vault, s *State, now func() time.Time, log *slog.Logger, fatal chan<- error) *kernel {
	k := &kernel{
		vault: v, now: now, log: log, fatal: fatal,
		queue: make(chan *proposal, queueLength), stop: make(chan struct{}), done: make(chan struct{}),
	}
	k.state.Store(s)
	go k.write()
	return k
}

// propose prepares and submits until the preparation is not stale. prepare runs in the caller's goroutine and may be
// slow; the decision it returns runs in the writer. The returned state contains the decision's effects, durably.
func (k *kernel) propose(ctx context.Context, actor string, prepare func(*State) (decision, error)) (*State, error) {
	for range prepareTries {
		decide, err := prepare(k.state.Load())
		if err != nil {
			return nil, err
		}
		s, err := k.submit(ctx, actor, decide)
		if !errors.Is(err, errStale) {
			return s, err
		}
	}
	return nil, refuse(Unavailable, "the deployment keeps changing: %w", errStale).hint("try again")
}

// submit hands a decision to the writer and waits for its answer. If ctx ends first, the decision may still be applied.
func (k *kernel) submit(ctx context.Context, actor string, decide decision) (*State, error) {
	p := &proposal{
		actor: actor, request: requestID(ctx), decide: stillUser(ctx, actor, decide), answer: make(chan answer, 1),
	}
	select {
	case k.queue <- p:
	case <-ctx.Done():
		return nil, refuse(Unavailable, "waiting for the writer: %w", ctx.Err())
	case <-k.done:
		return nil, errStopped()
	}
	select {
	case a := <-p.answer:
		return a.state, a.err
	case <-ctx.Done():
		return nil, refuse(Unavailable, "waiting for the journal: %w", ctx.Err())
	case <-k.done:
		// The writer may have answered just before it ended.
		select {
		case a := <-p.answer:
			return a.state, a.err
		default:
			return nil, errStopped()
		}
	}
}

func errStopped() error {
	return refuse(Unavailable, "the Coordinator is shutting down").hint("try again in a moment")
}

// close ends the writer after the groups that already wait, and waits for background work.
func (k *kernel) close() {
	close(k.stop)
	<-k.done
	k.background.Wait()
}

// write is the single writer.
func (k *kernel) write() {
	defer close(k.done)
	for {
		select {
		case p := <-k.queue:
			if !k.commit(p) {
				return
			}
		case <-k.stop:
			for len(k.queue) > 0 && k.commit(<-k.queue) {
			}
			return
		}
	}
}
