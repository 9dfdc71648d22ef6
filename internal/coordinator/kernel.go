// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
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
	p := &proposal{actor: actor, request: requestID(ctx), decide: decide, answer: make(chan answer, 1)}
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

// group is the work of one synced write.
type group struct {
	state    *State // after all decisions so far; not yet durable
	payloads [][]byte
	bytes    int
	answers  []func(error)
	// epoch ends a group: its record is written with a change of keys.
	epoch *epochChange
	last  []byte
}

// commit decides first and all that waits, writes once, publishes and answers. It returns false if the writer must end.
func (k *kernel) commit(first *proposal) bool {
	g := &group{state: k.state.Load()}
	next := first
	for next != nil {
		if !k.decide(g, next) {
			// A change of keys is written alone: flush what came before, then decide again.
			if !k.flush(g) {
				return false
			}
			g = &group{state: k.state.Load()}
			k.decide(g, next)
			break
		}
		next = k.take(g)
	}
	return k.flush(g)
}

// take returns the next waiting proposal if the group has room.
func (k *kernel) take(g *group) *proposal {
	if len(g.answers) >= groupLength || g.bytes >= groupBytes || g.epoch != nil {
		return nil
	}
	select {
	case p := <-k.queue:
		return p
	default:
		return nil
	}
}

// decide adds p to the group. It returns false, without a trace, if p changes keys and the group is not empty.
func (k *kernel) decide(g *group, p *proposal) bool {
	refused := func(err error) bool {
		// A refusal may rest on decisions that are not durable yet: it waits with them.
		g.answers = append(g.answers, func(failed error) { p.answer <- answer{err: firstError(failed, err)} })
		return true
	}
	out, err := p.decide(g.state)
	if err != nil {
		return refused(err)
	}
	if out.epoch != nil && len(g.payloads) > 0 {
		return false
	}
	if len(out.events) == 0 {
		s := g.state
		g.answers = append(g.answers, func(failed error) { p.answer <- answer{state: s, err: failed} })
		return true
	}
	rec := &record{Version: recordVersion, Time: k.eventTime(g.state), Actor: p.actor, Request: p.request, Events: out.events}
	payload, err := rec.encode()
	if err == nil {
		err = rec.resolve()
	}
	if err != nil {
		return refused(refuse(Internal, "%w", err))
	}
	g.state = g.state.apply(rec, g.state.position+1)
	s := g.state
	g.answers = append(g.answers, func(failed error) { p.answer <- answer{state: s, err: failed} })
	if g.epoch = out.epoch; g.epoch != nil {
		g.last = payload
		return true
	}
	g.payloads = append(g.payloads, payload)
	g.bytes += len(payload)
	return true
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// eventTime never goes backwards.
func (k *kernel) eventTime(s *State) time.Time {
	now := k.now().UTC().Round(0)
	if now.Before(s.time) {
		return s.time
	}
	return now
}

// flush makes the group durable, publishes its state and answers. It returns false if the writer must end.
func (k *kernel) flush(g *group) bool {
	err := k.persist(g)
	if err == nil {
		k.state.Store(g.state)
	}
	for _, reply := range g.answers {
		reply(err)
	}
	if errors.Is(err, vault.ErrBroken) {
		k.fatal <- err
		return false
	}
	k.snapshotIfDue()
	return true
}

// persist writes the group with one synced write.
func (k *kernel) persist(g *group) error {
	ctx := context.Background() // a write that has begun is not abandoned
	var err error
	switch {
	case g.epoch != nil:
		err = k.changeKeys(ctx, g)
	case len(g.payloads) > 0:
		err = k.append(ctx, g)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, vault.ErrFull):
		return refuse(Unavailable, "cannot store the change, the disk is full: %w", err).
			hint("nothing was changed; free some space and try again")
	}
	return refuse(Internal, "storing the change: %w", err)
}

func (k *kernel) append(ctx context.Context, g *group) error {
	last, err := k.vault.Append(ctx, g.payloads)
	if err != nil {
		return err
	}
	if last != g.state.position {
		// The vault and the kernel disagree about the journal: nothing may be acknowledged any more.
		return fmt.Errorf("%w: journal is at position %d, the state at %d", vault.ErrBroken, last, g.state.position)
	}
	return nil
}

// changeKeys writes the group's only record together with a snapshot under new keys or slots.
func (k *kernel) changeKeys(ctx context.Context, g *group) error {
	state, err := g.state.encode()
	if err != nil {
		return err
	}
	if !g.epoch.rekey {
		return k.vault.SetSealMode(ctx, g.epoch.sealMode, g.state.position, state, g.last)
	}
	return k.vault.Rekey(ctx, vault.Epoch{
		SealMode: g.epoch.sealMode, RecoverySecret: g.epoch.recoverySecret, RecoveryMeta: g.epoch.recoveryMeta,
		Position: g.state.position, State: state, Record: g.last,
	})
}

// snapshotIfDue writes a snapshot beside the writer, so that replay stays short.
func (k *kernel) snapshotIfDue() {
	if !k.vault.NeedsSnapshot() || !k.snapshotting.CompareAndSwap(false, true) {
		return
	}
	s := k.state.Load()
	k.background.Go(func() {
		defer k.snapshotting.Store(false)
		data, err := s.encode()
		if err == nil {
			err = k.vault.Snapshot(context.Background(), s.position, data)
		}
		if err != nil {
			k.log.Error("Snapshot failed. The journal is intact, it only grows until the next attempt.", "error", err)
		}
	})
}
