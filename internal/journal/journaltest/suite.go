// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/journal"
)

// Run is the conformance suite. storage makes an empty storage and returns a
// function that opens a driver on it, again and again.
func Run(t *testing.T, storage func(t *testing.T) (open func() journal.Driver)) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *fixture){
		"empty":               testEmpty,
		"append and replay":   testAppend,
		"conflict":            testConflict,
		"reopen":              testReopen,
		"readers seek":        testSeek,
		"readers are views":   testViews,
		"compact and prune":   testCompact,
		"compact beside":      testCompactBeside,
		"compact is checked":  testCompactChecked,
		"replace":             testReplace,
		"replace fails whole": testReplaceFails,
		"cancelled":           testCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			fx := &fixture{t: t, open: storage(t), chain: journal.Hash{9}}
			fx.driver = fx.open()
			test(t, fx)
		})
	}
}

// fixture drives one driver and remembers what must be in it.
type fixture struct {
	t      *testing.T
	open   func() journal.Driver
	driver journal.Driver
	frames []journal.Frame // all ever appended, from position 1
	chain  journal.Hash
}

func (fx *fixture) last() uint64 { return uint64(len(fx.frames)) }

// next makes n frames; bodies have various lengths, the empty one included.
func (fx *fixture) next(n int) []journal.Frame {
	var out []journal.Frame
	for range n {
		position := fx.last() + 1
		body := []byte(fmt.Sprintf("%0*d", int(position*37%301), position))
		if position%5 == 0 {
			body = nil
		}
		f := journal.Frame{Position: position, Body: body, Prev: fx.chain}
		f.Chain = journal.Link(f.Prev, position, body)
		fx.frames, fx.chain = append(fx.frames, f), f.Chain
		out = append(out, f)
	}
	return out
}

func (fx *fixture) append(n int) {
	fx.t.Helper()
	after := fx.last()
	if err := fx.driver.Append(fx.t.Context(), after, fx.next(n)); err != nil {
		fx.t.Fatalf("append after %d: %v", after, err)
	}
}

// create installs a journal with n frames and a snapshot at 0.
func (fx *fixture) create(n int) {
	fx.t.Helper()
	img := fx.image("header 1", 0, 1)
	if err := fx.driver.Replace(fx.t.Context(), img, bodies(fx.next(n))); err != nil {
		fx.t.Fatalf("replace: %v", err)
	}
}

func bodies(frames []journal.Frame) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, f := range frames {
			if !yield(f.Body, nil) {
				return
			}
		}
	}
}

func (fx *fixture) image(header string, position, first uint64) journal.Image {
	anchor := journal.Hash{9}
	if first > 1 {
		anchor = fx.frames[first-2].Chain
	}
	return journal.Image{
		Header: []byte(header), Position: position, First: first, Anchor: anchor,
		SnapshotSize: len(snapshot(position, journal.Hash{})),
		Snapshot:     func(chain journal.Hash) ([]byte, error) { return snapshot(position, chain), nil },
	}
}

func snapshot(position uint64, chain journal.Hash) []byte {
	return []byte(fmt.Sprintf("state at %08d, chain %x", position, chain))
}

// reopen opens the storage again, as the next start would.
func (fx *fixture) reopen() journal.Tail {
	fx.t.Helper()
	if err := fx.driver.Close(); err != nil {
		fx.t.Fatal(err)
	}
	fx.driver = fx.open()
	tail, err := fx.driver.Replay(fx.t.Context(), func(journal.Frame) error { return nil })
	if err != nil {
		fx.t.Fatalf("replay: %v", err)
	}
	if err := fx.driver.Settle(fx.t.Context(), 0); err != nil {
		fx.t.Fatalf("settle: %v", err)
	}
	return tail
}

// check compares everything that the driver shows with what must be there.
func (fx *fixture) check(header string, position, first uint64) {
	fx.t.Helper()
	head, err := fx.driver.Load(fx.t.Context())
	if err != nil {
		fx.t.Fatalf("load: %v", err)
	}
	img := fx.image(header, position, first)
	chain := journal.Hash{9}
	if position > 0 {
		chain = fx.frames[position-1].Chain
	}
	want := journal.Head{
		Header: img.Header, Snapshot: snapshot(position, chain),
		Position: position, First: first, Anchor: img.Anchor,
	}
	if diff := cmp.Diff(want, head); diff != "" {
		fx.t.Errorf("head (-want +got):\n%s", diff)
	}
	fx.checkFrames(first-1, fx.frames[first-1:])
}

func (fx *fixture) checkFrames(after uint64, want []journal.Frame) {
	fx.t.Helper()
	r, err := fx.driver.Reader()
	if err != nil {
		fx.t.Fatal(err)
	}
	defer r.Close()
	if diff := diffFrames(want, collect(fx.t, r, after)); diff != "" {
		fx.t.Errorf("frames after %d (-want +got):\n%s", after, diff)
	}
}

func collect(t *testing.T, r journal.Reader, after uint64) []journal.Frame {
	t.Helper()
	var out []journal.Frame
	for f, err := range r.Frames(t.Context(), after) {
		if err != nil {
			t.Fatalf("reading after %d: %v", after, err)
		}
		f.Body = slices.Clone(f.Body)
		out = append(out, f)
	}
	return out
}

func diffFrames(want, got []journal.Frame) string {
	if len(want) == 0 && len(got) == 0 {
		return ""
	}
	return cmp.Diff(want, got, cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) }))
}
