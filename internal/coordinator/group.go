// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/marblerun/marblerun/internal/vault"
)

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
	if g.epoch != nil || len(g.payloads) > 0 {
		k.note(err)
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

// note tells operators when writing begins to fail, and when it succeeds again.
func (k *kernel) note(err error) {
	switch {
	case err != nil && !k.failing:
		k.log.Error("Cannot store changes. Nothing is lost, but nothing can be changed and no Marble admitted.", "error", err)
	case err == nil && k.failing:
		k.log.Info("Changes can be stored again")
	}
	k.failing = err != nil
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
