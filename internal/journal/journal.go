// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal stores an append-only log of sealed records behind a small
// driver interface.
//
// A journal is a header, one snapshot and frames. A frame is one record as it
// was sealed by the caller: the drivers see its length, its position and its
// hash, never what is inside. The same holds for the snapshot. The header is
// readable by everybody and authenticated by nobody; who needs to trust it
// repeats it inside the snapshot and compares.
//
//	header ‖ snapshot (state at Position) ‖ frames First … Position … Last
//
// Frames up to the snapshot's position are history: kept to be read, not
// needed to rebuild the state. Frames after it are the tail.
//
// Invariants that every driver keeps, checked by package journaltest:
//
//   - Positions count up by one, from 1. Append names the position it follows;
//     if that is not the end of the log the answer is ErrConflict.
//   - When Append, Compact or Replace return nil their effect is durable. One
//     Append is all or nothing, after a crash too.
//   - Frames are returned byte for byte as they were appended, whatever was
//     compacted meanwhile.
//   - Damage is reported with the position at which it was found. Only a tail
//     that cannot have been acknowledged is dropped.
//   - A failed sync ends writing for this driver (ErrBroken): it is never
//     retried as if nothing had happened.
//
// Drivers: journal/file (one file, the default) and journal/mem.
package journal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// Errors that a caller tells apart.
var (
	// ErrConflict: the log does not end where the caller believes. Catch up and decide again.
	ErrConflict = errors.New("the journal has moved on")
	// ErrFull: no space. Nothing was written; the journal can be read, and writing may succeed later.
	ErrFull = errors.New("no space left for the journal")
	// ErrBroken: a write or sync failed in a way that leaves the durable content unknown.
	// The process must end; the next start replays what the disk really has.
	ErrBroken = errors.New("the journal's storage failed")
	// ErrNotFound: nothing is stored.
	ErrNotFound = errors.New("no journal found")
	// ErrLocked: another process has the directory.
	ErrLocked = errors.New("the directory is in use by another process")
	// ErrClosed: the driver was closed.
	ErrClosed = errors.New("the journal is closed")
)

// CorruptError is damage: content that this program did not write like this.
type CorruptError struct {
	Position uint64 // record at which the damage was found; 0: before the first record
	Offset   int64  // byte offset, -1 where it has no meaning
	Text     string // what is wrong
}

func (e *CorruptError) Error() string {
	where := "in its head"
	if e.Position > 0 {
		where = fmt.Sprintf("at record %d", e.Position)
	}
	if e.Offset >= 0 {
		where += fmt.Sprintf(" (byte %d)", e.Offset)
	}
	return "damaged " + where + ": " + e.Text
}

// Hash is a link of the hash chain, 32 bytes.
type Hash [sha256.Size]byte

// Link returns the chain hash after a frame:
// SHA-256(previous hash ‖ position, 8 bytes big-endian ‖ body).
func Link(prev Hash, position uint64, body []byte) Hash {
	h := sha256.New()
	var buf [len(prev) + 8]byte
	copy(buf[:], prev[:])
	binary.BigEndian.PutUint64(buf[len(prev):], position)
	h.Write(buf[:])
	h.Write(body)
	var out Hash
	h.Sum(out[:0])
	return out
}

// Frame is one sealed record.
type Frame struct {
	Position uint64
	Body     []byte // opaque. From an iterator: valid until the next frame is asked for
	Prev     Hash   // chain hash before this frame
	Chain    Hash   // Link(Prev, Position, Body)
}

// Head is what stands before the frames.
type Head struct {
	Header   []byte // opaque, not authenticated
	Snapshot []byte // opaque, sealed by the caller
	Position uint64 // the snapshot's position: it contains all records up to here
	First    uint64 // first retained position, at most Position+1
	Anchor   Hash   // chain hash before First
}

// Image describes a journal that is to be written as a whole.
type Image struct {
	Header       []byte
	Position     uint64
	First        uint64
	Anchor       Hash
	SnapshotSize int // exact length in bytes of what Snapshot returns
	// Snapshot seals the snapshot. It is called once, with the chain hash at Position.
	Snapshot func(chain Hash) ([]byte, error)
}

// Tail is what Replay learned about the end of the log.
type Tail struct {
	Last  uint64 // position of the last record
	Chain Hash   // chain hash after it
	Torn  int64  // bytes after it that belong to a write that was never acknowledged
}

// Driver is one way to store one journal. Append, Compact, Replace, Settle and
// Replay have one caller at a time, except that Compact runs beside Append;
// Reader may be called by anybody at any time.
type Driver interface {
	// Load reads header and snapshot. ErrNotFound: there is no journal.
	// *CorruptError: there is one, but it cannot be read. Other errors are the storage's.
	Load(ctx context.Context) (Head, error)
	// Replay reads all frames from storage, in order, and finds the end of the log. It changes nothing.
	Replay(ctx context.Context, visit func(Frame) error) (Tail, error)
	// Settle makes durable what the last Replay saw and drops its torn bytes. Records up to `durable`
	// are known to be so. Append and Compact need it, or a Replace, before them.
	Settle(ctx context.Context, durable uint64) error
	// Append writes frames after the given position, with one sync.
	// Errors: ErrConflict, ErrFull (nothing written), ErrBroken.
	Append(ctx context.Context, after uint64, frames []Frame) error
	// Reader returns a view of the log as it is now.
	Reader() (Reader, error)
	// Compact installs a new snapshot and forgets the frames before img.First, in one atomic step.
	// The position must not be beyond the end of the log. An error other than ErrBroken means: nothing changed.
	Compact(ctx context.Context, img Image) error
	// Replace installs a whole new journal, in one atomic step; bodies are its frames from img.First on.
	// An error other than ErrBroken means: nothing changed.
	Replace(ctx context.Context, img Image, bodies iter.Seq2[[]byte, error]) error
	// Close releases what the driver holds. Open Readers stay valid.
	Close() error
}

// Reader is an unchanging view of a log: later appends and compactions do not show.
type Reader interface {
	// Frames yields the retained frames with a position beyond `after`, in order.
	// The first error ends the iteration.
	Frames(ctx context.Context, after uint64) iter.Seq2[Frame, error]
	Close() error
}
