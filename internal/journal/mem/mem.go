// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package mem is the journal driver that keeps everything in memory. It serves
// SealMode Disabled, which persists nothing, and tests. It gives the guarantees
// of package journal for as long as the Driver lives: "storage" is the Driver
// itself, so Close does nothing.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/marblerun/marblerun/internal/journal"
)

// Driver is an empty journal when made by new(Driver).
type Driver struct {
	mu     sync.Mutex
	stored bool
	head   journal.Head
	frames []journal.Frame // append-only: readers hold prefixes of it
}

var _ journal.Driver = (*Driver)(nil)

// Load implements journal.Driver.
func (d *Driver) Load(context.Context) (journal.Head, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stored {
		return journal.Head{}, journal.ErrNotFound
	}
	return d.head, nil
}

// Replay implements journal.Driver.
func (d *Driver) Replay(ctx context.Context, visit func(journal.Frame) error) (journal.Tail, error) {
	d.mu.Lock()
	tail := journal.Tail{Last: d.last(), Chain: d.chain()}
	r := reader(d.frames)
	d.mu.Unlock()
	for f, err := range r.Frames(ctx, 0) {
		if err != nil {
			return tail, err
		}
		if err := visit(f); err != nil {
			return tail, err
		}
	}
	return tail, nil
}

// Settle implements journal.Driver; memory has nothing to settle.
func (d *Driver) Settle(context.Context, uint64) error { return nil }

func (d *Driver) last() uint64 { return d.head.First + uint64(len(d.frames)) - 1 }

func (d *Driver) chain() journal.Hash {
	if len(d.frames) == 0 {
		return d.head.Anchor
	}
	return d.frames[len(d.frames)-1].Chain
}

// Append implements journal.Driver.
func (d *Driver) Append(_ context.Context, after uint64, frames []journal.Frame) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stored {
		return journal.ErrNotFound
	}
	if after != d.last() {
		return fmt.Errorf("%w: it ends at record %d, not %d", journal.ErrConflict, d.last(), after)
	}
	for _, f := range frames {
		f.Body = bytes.Clone(f.Body)
		d.frames = append(d.frames, f)
	}
	return nil
}

// Reader implements journal.Driver.
func (d *Driver) Reader() (journal.Reader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return reader(d.frames), nil
}

// Compact implements journal.Driver.
func (d *Driver) Compact(_ context.Context, img journal.Image) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stored {
		return journal.ErrNotFound
	}
	if img.First < d.head.First || img.First > img.Position+1 || img.Position > d.last() {
		return fmt.Errorf("cannot compact records %d-%d to first %d, snapshot %d",
			d.head.First, d.last(), img.First, img.Position)
	}
	chain := d.head.Anchor
	if img.Position >= d.head.First {
		chain = d.frames[img.Position-d.head.First].Chain
	}
	head, err := seal(img, chain)
	if err != nil {
		return err
	}
	d.frames = slices.Clone(d.frames[img.First-d.head.First:])
	d.head = head
	return nil
}

// Replace implements journal.Driver.
func (d *Driver) Replace(ctx context.Context, img journal.Image, bodies iter.Seq2[[]byte, error]) error {
	var frames []journal.Frame
	position, chain, at := img.First, img.Anchor, img.Anchor
	for body, err := range bodies {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f := journal.Frame{Position: position, Body: bytes.Clone(body), Prev: chain}
		f.Chain = journal.Link(chain, position, body)
		frames = append(frames, f)
		chain = f.Chain
		if position == img.Position {
			at = chain
		}
		position++
	}
	if img.First > img.Position+1 || img.Position >= position {
		return fmt.Errorf("snapshot at %d does not fit records %d-%d", img.Position, img.First, position-1)
	}
	head, err := seal(img, at)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stored, d.head, d.frames = true, head, frames
	return nil
}

// Close implements journal.Driver.
func (d *Driver) Close() error { return nil }

func seal(img journal.Image, chain journal.Hash) (journal.Head, error) {
	snapshot, err := img.Snapshot(chain)
	if err != nil {
		return journal.Head{}, err
	}
	return journal.Head{
		Header: bytes.Clone(img.Header), Snapshot: snapshot,
		Position: img.Position, First: img.First, Anchor: img.Anchor,
	}, nil
}

type reader []journal.Frame

func (r reader) Frames(ctx context.Context, after uint64) iter.Seq2[journal.Frame, error] {
	return func(yield func(journal.Frame, error) bool) {
		if len(r) == 0 || after > r[len(r)-1].Position {
			return
		}
		skip := uint64(0)
		if after >= r[0].Position {
			skip = after - r[0].Position + 1
		}
		for _, f := range r[skip:] {
			if err := ctx.Err(); err != nil {
				yield(journal.Frame{}, err)
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

func (r reader) Close() error { return nil }
