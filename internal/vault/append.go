// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/sealed"
)

// Append stores records with one synced write: all of them or none. It returns
// the position of the last one. ErrFull: nothing was written, and it may be
// tried again later. ErrBroken: nobody knows; the process must end.
func (v *Vault) Append(ctx context.Context, payloads [][]byte) (uint64, error) {
	v.writing.Lock()
	defer v.writing.Unlock()
	e, at, err := v.current()
	if err != nil {
		return 0, fmt.Errorf("appending records: %w", err)
	}
	if err := v.writable(); err != nil {
		return at.Last, err
	}
	frames := make([]journal.Frame, 0, len(payloads))
	after := at.Last
	var last, size = after, 0
	chain := at.Chain
	for _, payload := range payloads {
		last++
		body, err := e.Seal(last, chain, payload)
		if err != nil {
			return after, err
		}
		f := journal.Frame{Position: last, Body: body, Prev: chain, Chain: journal.Link(chain, last, body)}
		frames, chain, size = append(frames, f), f.Chain, size+len(body)
	}
	if err := e.Driver.Append(ctx, after, frames); err != nil {
		return after, v.check(fmt.Errorf("appending records: %w", err))
	}
	v.mu.Lock()
	v.at.Last, v.at.Chain = last, chain
	v.at.Retained += int64(size)
	v.at.Tail += int64(size)
	v.mu.Unlock()
	if len(frames) > 0 {
		v.due()
	}
	return last, nil
}

// NeedsSnapshot reports that so much follows the last snapshot that a new one
// pays: more than TailLimit and more than the snapshot itself.
func (v *Vault) NeedsSnapshot() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.phase == Ready && v.at.Tail > max(v.cfg.TailLimit, v.at.State)
}

// Snapshot stores the state as of a position, so that replay begins after it,
// and forgets the oldest records beyond HistoryLimit, never those after the
// position. Appends may go on meanwhile. A snapshot older than the present one
// is ignored. Errors other than ErrBroken mean that nothing changed.
func (v *Vault) Snapshot(ctx context.Context, position uint64, state []byte) error {
	v.swap.Lock()
	defer v.swap.Unlock()
	e, at, r, err := v.view()
	if err != nil {
		return fmt.Errorf("storing a snapshot: %w", err)
	}
	defer r.Close()
	if position <= at.Snapshot {
		return nil
	}
	if position > at.Last {
		return fmt.Errorf("storing a snapshot: %w: position %d is beyond the last record %d",
			ErrConflict, position, at.Last)
	}
	cut, err := v.trim(ctx, r, at, position)
	if err != nil {
		return fmt.Errorf("storing a snapshot: %w", err)
	}
	img := e.Image(position, cut.first, cut.anchor, state)
	if err := e.Driver.Compact(ctx, img); err != nil {
		return v.check(fmt.Errorf("storing a snapshot: %w", err))
	}
	v.mu.Lock()
	v.at.First, v.at.Anchor, v.at.Snapshot, v.at.State = cut.first, cut.anchor, position, int64(img.SnapshotSize)
	v.at.Retained -= cut.forgotten
	v.at.Tail -= cut.tail
	v.mu.Unlock()
	v.keys.Lock()
	defer v.keys.Unlock()
	v.warn(v.writeMark(), "Writing the watermark to sealed_key failed")
	return nil
}

// cut is what a snapshot changes about the records.
type cut struct {
	first     uint64       // first position to retain
	anchor    journal.Hash // chain hash before it
	forgotten int64        // bytes of the records before it that were retained until now
	tail      int64        // bytes of the records that were tail and are history now
}

// trim finds the oldest record to retain.
func (v *Vault) trim(ctx context.Context, r journal.Reader, at sealed.Cursor, position uint64) (cut, error) {
	out := cut{first: at.First, anchor: at.Anchor, tail: at.Tail}
	for f, err := range r.Frames(ctx, at.First-1) {
		if err != nil {
			return out, err
		}
		if f.Position > position || at.Retained-out.forgotten <= v.cfg.HistoryLimit {
			break
		}
		out.forgotten += int64(len(f.Body))
		out.first, out.anchor = f.Position+1, f.Chain
	}
	for f, err := range r.Frames(ctx, position) {
		if err != nil {
			return out, err
		}
		if f.Position <= at.Last {
			out.tail -= int64(len(f.Body))
		}
	}
	return out, nil
}

// Replay gives back what is stored: the state of the last snapshot (no call if
// there is none yet), then all records after it, in order. To be called when
// the vault is Ready, before the first Append or Snapshot.
func (v *Vault) Replay(ctx context.Context, state func([]byte) error, record func(Record) error) error {
	e, at, r, err := v.view()
	if err != nil {
		return fmt.Errorf("replaying the journal: %w", err)
	}
	defer r.Close()
	return replay(ctx, e.Epoch, at, r, state, record)
}

func replay(ctx context.Context, e *sealed.Epoch, at sealed.Cursor, r journal.Reader,
	state func([]byte) error, record func(Record) error,
) error {
	if at.Snapshot > 0 {
		snapshot, err := e.State(ctx)
		if err != nil {
			return fmt.Errorf("replaying the journal: %w", err)
		}
		if err := state(snapshot); err != nil {
			return err
		}
	}
	return e.Walk(ctx, r, at.Snapshot, func(position uint64, payload []byte) (bool, error) {
		return true, record(Record{Position: position, Payload: payload})
	})
}

// History calls fn with the retained records beyond a position, in order, until
// fn says that it has enough or fails. It sees what was durable when it was
// called, and holds one group of records in memory at a time.
func (v *Vault) History(ctx context.Context, after uint64, fn func(Record) (more bool, err error)) error {
	e, _, r, err := v.view()
	if err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	defer r.Close()
	return e.Walk(ctx, r, after, func(position uint64, payload []byte) (bool, error) {
		return fn(Record{Position: position, Payload: payload})
	})
}

// HistoryStart returns the position of the first retained record.
func (v *Vault) HistoryStart() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at.First
}
