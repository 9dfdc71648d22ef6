// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/marblerun/marblerun/internal/journal"
)

// Compact implements journal.Driver.
func (d *Driver) Compact(ctx context.Context, img journal.Image) error {
	d.rewriting.Lock()
	defer d.rewriting.Unlock()
	r, err := d.view()
	if err != nil {
		return err
	}
	if img.First < r.img.start.position || img.Position > r.last {
		return errors.Join(r.Close(), fmt.Errorf("cannot compact records %d-%d to first %d, snapshot %d",
			r.img.start.position, r.last, img.First, img.Position))
	}
	b, err := newBuilder(d.fs, d.path+journal.TempSuffix, img)
	if err == nil {
		err = b.copy(ctx, r)
	}
	if err == nil {
		err = b.sync()
	}
	err = errors.Join(err, r.Close())
	if err != nil {
		return b.discard(err)
	}

	d.writing.Lock()
	defer d.writing.Unlock()
	if _, err := d.writable(); err != nil {
		return b.discard(err)
	}
	if r, err = d.view(); err != nil {
		return b.discard(err)
	}
	if err := errors.Join(b.copy(ctx, r), r.Close()); err != nil {
		return b.discard(err)
	}
	return d.swap(b)
}

// copy adds the frames of a reader that the builder does not have yet.
func (b *builder) copy(ctx context.Context, r *reader) error {
	for f, err := range r.Frames(ctx, b.at.position-1) {
		if err != nil {
			return err
		}
		if f.Prev != b.at.prev {
			const text = "the chain of hashes does not continue here"
			return &journal.CorruptError{Position: f.Position, Offset: -1, Text: text}
		}
		if err := b.add(f.Body); err != nil {
			return err
		}
	}
	return nil
}

// discard is abort for a builder that may not have come to be.
func (b *builder) discard(err error) error {
	if b == nil {
		return err
	}
	return b.abort(err)
}

// Replace implements journal.Driver.
func (d *Driver) Replace(ctx context.Context, img journal.Image, bodies iter.Seq2[[]byte, error]) error {
	d.rewriting.Lock()
	defer d.rewriting.Unlock()
	b, err := newBuilder(d.fs, d.path+journal.TempSuffix, img)
	if err != nil {
		return b.discard(err)
	}
	for body, err := range bodies {
		err = errors.Join(err, ctx.Err())
		if err == nil {
			err = b.add(body)
		}
		if err != nil {
			return b.abort(err)
		}
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.swap(b)
}

// swap commits a builder and makes its file the current one; the caller holds d.writing.
func (d *Driver) swap(b *builder) error {
	img, err := b.commit(d.path)
	if errors.Is(err, journal.ErrBroken) {
		return errors.Join(d.fail("replacing "+filepath.Base(d.path), err), b.f.Close())
	}
	if err != nil {
		return b.abort(err)
	}
	d.mu.Lock()
	old := d.img
	d.img, d.settled = img, true
	d.mu.Unlock()
	if old != nil {
		return old.release()
	}
	return nil
}
