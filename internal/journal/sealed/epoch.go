// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package sealed is a journal as its owner sees it: records sealed under the
// data key of an epoch, chained, behind a snapshot that vouches for the header.
//
// Invariants: a record opens only at its position, in its epoch of its journal,
// after the record that it was sealed after; what the unauthenticated head of a
// journal claims is believed only if the sealed snapshot repeats it; Verify
// accepts a journal only if every retained record is the one that was written.
// Layouts: docs/design/journal.md.
package sealed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/seal"
)

// Epoch is one journal under one data key: what its header says, the key, and
// where it lies.
type Epoch struct {
	Header
	Raw       []byte // the header as stored
	Key       seal.Key
	Marks     *seal.Cipher // for the watermark
	Driver    journal.Driver
	records   *seal.Cipher
	snapshots *seal.Cipher
}

// New returns the epoch of a header and its key. random is for salts.
func New(h Header, raw []byte, key seal.Key, random io.Reader) *Epoch {
	return &Epoch{
		Header: h, Raw: raw, Key: key,
		Marks:     seal.NewCipher(key, seal.Watermarks, random),
		records:   seal.NewCipher(key, seal.Records, random),
		snapshots: seal.NewCipher(key, seal.Snapshots, random),
	}
}

// Persistent reports whether the epoch lies in files.
func (e *Epoch) Persistent() bool { return e.SealMode != Disabled }

// Seal seals one record.
func (e *Epoch) Seal(position uint64, prev journal.Hash, payload []byte) ([]byte, error) {
	body, err := e.records.Seal(make([]byte, 0, len(payload)+seal.Overhead), payload, e.recordAAD(position, prev))
	if err != nil {
		return nil, fmt.Errorf("sealing record %d: %w", position, err)
	}
	return body, nil
}

// Open opens one record.
func (e *Epoch) Open(f journal.Frame) ([]byte, error) {
	payload, err := e.records.Open(nil, f.Body, e.recordAAD(f.Position, f.Prev))
	if err != nil {
		const text = "the record is not the one that was sealed here"
		return nil, &journal.CorruptError{Position: f.Position, Offset: -1, Text: text}
	}
	return payload, nil
}

// Image describes the journal to write for a snapshot.
func (e *Epoch) Image(position uint64, first uint64, anchor journal.Hash, state []byte) journal.Image {
	s := snapshot{header: e.Raw, position: position, first: first, anchor: anchor, state: state}
	return journal.Image{
		Header: e.Raw, Position: position, First: first, Anchor: anchor, SnapshotSize: s.sealedSize(),
		Snapshot: func(chain journal.Hash) ([]byte, error) {
			s.chain = chain
			return e.snapshots.Seal(make([]byte, 0, s.sealedSize()), s.encode(), e.aad())
		},
	}
}

// openSnapshot opens the snapshot of a head and compares what the head claims with what the snapshot repeats.
func (e *Epoch) openSnapshot(head journal.Head) (snapshot, error) {
	plaintext, err := e.snapshots.Open(nil, head.Snapshot, e.aad())
	if err != nil {
		const text = "the snapshot is not the one that was sealed for this header"
		return snapshot{}, &journal.CorruptError{Offset: -1, Text: text}
	}
	s, err := parseSnapshot(plaintext)
	if err != nil {
		return snapshot{}, err
	}
	same := s.position == head.Position && s.first == head.First && s.anchor == head.Anchor
	if !same || !bytes.Equal(s.header, head.Header) {
		const text = "the header differs from the one that was sealed in the snapshot"
		return snapshot{}, &journal.CorruptError{Offset: -1, Text: text}
	}
	return s, nil
}

// State returns the snapshot's state.
func (e *Epoch) State(ctx context.Context) ([]byte, error) {
	head, err := e.Driver.Load(ctx)
	if err != nil {
		return nil, err
	}
	s, err := e.openSnapshot(head)
	return s.state, err
}

// Walk opens the records beyond a position, in order, until fn has enough or fails.
func (e *Epoch) Walk(
	ctx context.Context, r journal.Reader, after uint64,
	fn func(position uint64, payload []byte) (more bool, err error),
) error {
	for f, err := range r.Frames(ctx, after) {
		if err != nil {
			return fmt.Errorf("reading records: %w", err)
		}
		payload, err := e.Open(f)
		if err != nil {
			return fmt.Errorf("reading records: %w", err)
		}
		more, err := fn(f.Position, payload)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Carry returns the records of a journal for the next epoch, sealed again if
// the data key changes, and after them a new record (nil: none). The function
// returned moves the cursor along with what it yields.
func (e *Epoch) Carry(
	ctx context.Context, r journal.Reader, next *Epoch, record []byte,
) func(*Cursor) iter.Seq2[[]byte, error] {
	return func(at *Cursor) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			give := func(body []byte, err error) bool {
				if err == nil {
					at.Advance(journal.Link(at.Chain, at.Last+1, body), len(body))
				}
				return yield(body, err) && err == nil
			}
			for f, err := range r.Frames(ctx, at.Last) {
				body := f.Body
				if err == nil && e.Key != next.Key {
					body, err = e.reseal(f, next, at)
				}
				if !give(body, err) {
					return
				}
			}
			if record != nil {
				give(next.Seal(at.Last+1, at.Chain, record))
			}
		}
	}
}

func (e *Epoch) reseal(f journal.Frame, next *Epoch, at *Cursor) ([]byte, error) {
	payload, err := e.Open(f)
	if err != nil {
		return nil, err
	}
	return next.Seal(f.Position, at.Chain, payload)
}
