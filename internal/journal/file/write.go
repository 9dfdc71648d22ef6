// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/marblerun/marblerun/internal/journal"
)

// Settle implements journal.Driver. Bytes that may be in the page cache only,
// left there by a process whose sync failed or that was killed before it, are
// written again: a sync alone would not store what the kernel believes clean.
func (d *Driver) Settle(ctx context.Context, durable uint64) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	img := d.img
	if img == nil || img.index.marks == nil {
		d.mu.Unlock()
		return errors.New("the journal was not replayed")
	}
	from, end := img.index.before(durable), img.end
	d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	size, err := img.f.Size()
	if err != nil {
		return err
	}
	if size > end {
		if err := img.f.Truncate(end); err != nil {
			return fmt.Errorf("cutting off the torn tail: %w", err)
		}
	}
	_, err = io.Copy(io.NewOffsetWriter(img.f, from.offset), io.NewSectionReader(img.f, from.offset, end-from.offset))
	if err != nil && !errors.Is(journal.Full(err), journal.ErrFull) {
		return fmt.Errorf("settling the journal: %w", err)
	}
	if err := img.f.Sync(); err != nil {
		return fmt.Errorf("settling the journal: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = true
	return nil
}

// Append implements journal.Driver.
func (d *Driver) Append(ctx context.Context, after uint64, frames []journal.Frame) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	img, err := d.writable()
	if err != nil {
		return err
	}
	if after != img.last {
		return fmt.Errorf("%w: it ends at record %d, not %d", journal.ErrConflict, img.last, after)
	}
	if err := ctx.Err(); err != nil || len(frames) == 0 {
		return err
	}
	d.out.reset(after + 1)
	for _, f := range frames {
		d.out.add(f.Body)
	}
	data, err := d.out.bytes()
	if err != nil {
		return err
	}
	if err := journal.WriteAt(img.f, data, img.end); err != nil {
		return d.unwrite(img, err)
	}
	if err := img.f.Sync(); err != nil {
		return d.fail("syncing records", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	img.index.add(mark{position: after + 1, offset: img.end, prev: img.chain})
	img.end += int64(len(data))
	img.last, img.chain = after+uint64(len(frames)), frames[len(frames)-1].Chain
	if cap(d.out.buf) > 4<<20 {
		d.out.buf = nil
	}
	return nil
}

// writable returns the image to write to; the caller holds d.writing.
func (d *Driver) writable() (*image, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.broken != nil:
		return nil, d.broken
	case d.closed:
		return nil, journal.ErrClosed
	case !d.settled:
		return nil, errors.New("the journal was not settled")
	}
	return d.img, nil
}

// unwrite takes a failed write back.
func (d *Driver) unwrite(img *image, cause error) error {
	err := journal.Full(cause)
	if !errors.Is(err, journal.ErrFull) {
		return d.fail("writing records", cause)
	}
	if cut := img.f.Truncate(img.end); cut != nil {
		return d.fail("taking back a short write", errors.Join(cause, cut))
	}
	return err
}

// fail ends writing for good.
func (d *Driver) fail(what string, cause error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = fmt.Errorf("%w: %s: %w", journal.ErrBroken, what, cause)
	}
	return d.broken
}
