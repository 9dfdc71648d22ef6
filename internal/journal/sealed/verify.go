// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/seal"
)

// Cursor is the end of a log and what is known about its length.
type Cursor struct {
	Last     uint64
	Chain    journal.Hash // after last
	First    uint64       // first retained position
	Anchor   journal.Hash // before first
	Snapshot uint64       // position of the snapshot
	State    int64        // bytes of the snapshot
	Retained int64        // bytes of all retained records
	Tail     int64        // bytes of those after the snapshot
}

// StartCursor stands before the first record of an image.
func StartCursor(img journal.Image) Cursor {
	return Cursor{
		Last: img.First - 1, Chain: img.Anchor, First: img.First, Anchor: img.Anchor,
		Snapshot: img.Position, State: int64(img.SnapshotSize),
	}
}

// Advance moves behind the next record, whose sealed form has the given size in bytes.
func (c *Cursor) Advance(chain journal.Hash, size int) {
	c.Last, c.Chain = c.Last+1, chain
	c.Retained += int64(size)
	if c.Last > c.Snapshot {
		c.Tail += int64(size)
	}
}

// Verdict is what Verify found out.
type Verdict struct {
	At    Cursor
	Torn  int64
	State []byte // of the snapshot
	Older string // why the journal is older than its watermark; empty: it is not
}

// Verify checks a whole journal: the snapshot opens and agrees with the head,
// the chain of hashes runs through the history to the hash in the snapshot,
// every record after it opens, and the watermark, if there is one, lies on the chain.
func (e *Epoch) Verify(ctx context.Context, head journal.Head, mark *seal.Watermark) (Verdict, error) {
	s, err := e.openSnapshot(head)
	if err != nil {
		return Verdict{}, err
	}
	at := StartCursor(journal.Image{
		First: s.first, Anchor: s.anchor, Position: s.position, SnapshotSize: len(head.Snapshot),
	})
	older := ""
	visit := func() error {
		if at.Last == s.position && at.Chain != s.chain {
			const text = "the records up to here are not those of the snapshot"
			return &journal.CorruptError{Position: at.Last, Offset: -1, Text: text}
		}
		if mark != nil && at.Last == mark.Position && at.Chain != mark.Chain {
			older = fmt.Sprintf("its record %d is not the one that sealed_key has seen", at.Last)
		}
		return nil
	}
	if err := visit(); err != nil {
		return Verdict{}, err
	}
	tail, err := e.Driver.Replay(ctx, func(f journal.Frame) error {
		if f.Position > s.position {
			if _, err := e.Open(f); err != nil {
				return err
			}
		}
		at.Advance(f.Chain, len(f.Body))
		return visit()
	})
	if err != nil {
		return Verdict{}, err
	}
	if mark != nil && at.Last < mark.Position {
		older = fmt.Sprintf("it ends at record %d, sealed_key has seen record %d", at.Last, mark.Position)
	}
	return Verdict{At: at, Torn: tail.Torn, State: s.state, Older: older}, nil
}

// Damage returns the text of an error that means damaged content, as opposed to a failing storage.
func Damage(err error) (string, bool) {
	var corrupt *journal.CorruptError
	if errors.As(err, &corrupt) {
		return "sealed_data is " + corrupt.Error(), true
	}
	if errors.Is(err, seal.ErrMalformed) {
		return "sealed_data is damaged: " + err.Error(), true
	}
	return "", false
}
