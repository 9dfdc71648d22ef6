// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"os"

	"github.com/marblerun/marblerun/internal/journal"
)

// buildBatch is the payload size, in bytes, at which a builder closes a batch.
const buildBatch = 256 << 10

// builder writes a new journal file beside the current one. Frames come first,
// behind room left for header and snapshot: the snapshot seals the chain hash
// at its position, which is known only then.
type builder struct {
	fs       journal.FS
	path     string // of the temporary file
	f        journal.File
	img      journal.Image
	head     preamble
	snapshot []byte
	at       mark // behind the last frame added
	out      writer
	written  int64 // offset behind the last batch written
	index    index
}

func newBuilder(fsys journal.FS, path string, img journal.Image) (*builder, error) {
	if len(img.Header) > maxHeader || img.First == 0 || img.First > img.Position+1 {
		return nil, fmt.Errorf("invalid journal image: header of %d bytes, first record %d, snapshot at %d",
			len(img.Header), img.First, img.Position)
	}
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, journal.Full(err)
	}
	head := preamble{
		header: uint32(len(img.Header)), snapshot: uint64(img.SnapshotSize),
		position: img.Position, first: img.First, anchor: img.Anchor,
	}
	start := mark{position: img.First, offset: head.frames(), prev: img.Anchor}
	b := &builder{
		fs: fsys, path: path, f: f, img: img, head: head,
		at: start, written: start.offset, index: newIndex(start),
	}
	b.out.reset(img.First)
	if img.Position+1 == img.First {
		return b, b.seal()
	}
	return b, nil
}

// seal makes the snapshot; the builder stands behind the frame at its position.
func (b *builder) seal() error {
	snapshot, err := b.img.Snapshot(b.at.prev)
	if err != nil {
		return fmt.Errorf("sealing the snapshot: %w", err)
	}
	if len(snapshot) != b.img.SnapshotSize {
		return fmt.Errorf("the snapshot has %d bytes instead of %d", len(snapshot), b.img.SnapshotSize)
	}
	b.snapshot = snapshot
	return nil
}

func (b *builder) add(body []byte) error {
	if len(b.out.buf) > batchHead && len(b.out.buf)+len(body) > buildBatch {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.out.add(body)
	b.at.prev = journal.Link(b.at.prev, b.at.position, body)
	b.at.position++
	if b.at.position == b.img.Position+1 {
		return b.seal()
	}
	return nil
}

func (b *builder) flush() error {
	if b.out.count == 0 {
		return nil
	}
	data, err := b.out.bytes()
	if err != nil {
		return err
	}
	if err := journal.WriteAt(b.f, data, b.written); err != nil {
		return fmt.Errorf("writing records: %w", journal.Full(err))
	}
	b.written += int64(len(data))
	b.out.reset(b.at.position)
	b.index.add(mark{position: b.at.position, offset: b.written, prev: b.at.prev})
	return nil
}

// sync writes out and syncs what was added so far, so that commit has little left to do.
func (b *builder) sync() error {
	if err := b.flush(); err != nil {
		return err
	}
	return b.f.Sync()
}

// commit completes the file and puts it in place of the current one.
func (b *builder) commit(path string) (*image, error) {
	if b.snapshot == nil {
		return nil, fmt.Errorf("the snapshot at %d is beyond the last record %d", b.img.Position, b.at.position-1)
	}
	if err := b.flush(); err != nil {
		return nil, err
	}
	b.head.crc = crc(b.img.Header, b.snapshot)
	start := append(b.head.encode(), b.img.Header...)
	if err := journal.WriteAt(b.f, append(start, b.snapshot...), 0); err != nil {
		return nil, fmt.Errorf("writing the snapshot: %w", journal.Full(err))
	}
	if err := b.f.Sync(); err != nil {
		return nil, err
	}
	if err := journal.Commit(b.fs, b.path, path); err != nil {
		return nil, err
	}
	img := &image{
		f: b.f, start: b.index.marks[0], index: b.index,
		end: b.written, last: b.at.position - 1, chain: b.at.prev,
	}
	img.refs.Store(1)
	return img, nil
}

// abort removes the unfinished file; what it cannot remove the next start will.
func (b *builder) abort(err error) error {
	return errors.Join(err, b.f.Close(), b.fs.Remove(b.path))
}
