// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/journal"
)

func testEmpty(t *testing.T, fx *fixture) {
	if _, err := fx.driver.Load(t.Context()); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("Load of nothing: %v", err)
	}
	if err := fx.driver.Append(t.Context(), 0, fx.next(1)); err == nil {
		t.Error("appended to a journal that does not exist")
	}
}

func testAppend(t *testing.T, fx *fixture) {
	fx.create(1)
	fx.check("header 1", 0, 1)
	for _, n := range []int{1, 1, 64, 3, 1} {
		fx.append(n)
		fx.check("header 1", 0, 1)
	}
	if err := fx.driver.Append(t.Context(), fx.last(), nil); err != nil {
		t.Errorf("appending nothing: %v", err)
	}
	fx.check("header 1", 0, 1)
}

func testConflict(t *testing.T, fx *fixture) {
	fx.create(3)
	frames := fx.next(1)
	fx.frames = fx.frames[:3]
	for _, after := range []uint64{0, 2, 4, 1 << 40} {
		if err := fx.driver.Append(t.Context(), after, frames); !errors.Is(err, journal.ErrConflict) {
			t.Errorf("append after %d of 3: %v", after, err)
		}
	}
	fx.check("header 1", 0, 1)
	if err := fx.driver.Append(t.Context(), 3, frames); err != nil {
		t.Errorf("append after conflicts: %v", err)
	}
}

func testReopen(t *testing.T, fx *fixture) {
	fx.create(1)
	for i := range 4 {
		fx.append(1 + 5*i)
		want := journal.Tail{Last: fx.last(), Chain: fx.chain}
		if diff := cmp.Diff(want, fx.reopen()); diff != "" {
			t.Fatalf("tail (-want +got):\n%s", diff)
		}
		fx.check("header 1", 0, 1)
	}
}

func testSeek(t *testing.T, fx *fixture) {
	fx.create(1)
	for range 30 {
		fx.append(40)
	}
	for _, after := range []uint64{0, 1, 39, 40, 41, 42, 700, 1199, 1200, 1201, 1202, 1 << 60, ^uint64(0)} {
		fx.checkFrames(after, fx.frames[min(after, fx.last()):])
	}
}

func testViews(t *testing.T, fx *fixture) {
	fx.create(5)
	r, err := fx.driver.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fx.append(5)
	if err := fx.driver.Compact(t.Context(), fx.image("header 1", 8, 7)); err != nil {
		t.Fatal(err)
	}
	fx.append(1)
	if diff := diffFrames(fx.frames[:5], collect(t, r, 0)); diff != "" {
		t.Errorf("the view changed (-want +got):\n%s", diff)
	}
	if err := fx.driver.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := diffFrames(fx.frames[:5], collect(t, r, 0)); diff != "" {
		t.Errorf("the view changed when the driver closed (-want +got):\n%s", diff)
	}
}

func testCompact(t *testing.T, fx *fixture) {
	fx.create(1)
	fx.append(20)
	for _, c := range []struct{ position, first uint64 }{{5, 1}, {5, 3}, {15, 10}, {21, 10}, {21, 22}, {21, 22}} {
		if err := fx.driver.Compact(t.Context(), fx.image("header 1", c.position, c.first)); err != nil {
			t.Fatalf("compact %+v: %v", c, err)
		}
		fx.check("header 1", c.position, c.first)
		fx.reopen()
		fx.check("header 1", c.position, c.first)
	}
	fx.append(2)
	fx.reopen()
	fx.check("header 1", 21, 22)
}

func testCompactBeside(t *testing.T, fx *fixture) {
	fx.create(50)
	done := make(chan error)
	img := fx.image("header 1", 40, 30)
	go func() { done <- fx.driver.Compact(context.Background(), img) }()
	for range 100 {
		fx.append(3)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	fx.append(1)
	fx.check("header 1", 40, 30)
	fx.reopen()
	fx.check("header 1", 40, 30)
}

func testCompactChecked(t *testing.T, fx *fixture) {
	fx.create(10)
	if err := fx.driver.Compact(t.Context(), fx.image("header 1", 6, 4)); err != nil {
		t.Fatal(err)
	}
	broken := fx.image("header 1", 8, 5)
	broken.Snapshot = func(journal.Hash) ([]byte, error) { return nil, errors.New("no") }
	beyond := fx.image("header 1", 6, 4)
	beyond.Position = 11
	for name, img := range map[string]journal.Image{
		"snapshot refused": broken, "position beyond the end": beyond,
		"forgotten frames": fx.image("header 1", 6, 3), "hole after the snapshot": fx.image("header 1", 6, 9),
	} {
		if err := fx.driver.Compact(t.Context(), img); err == nil {
			t.Errorf("%s: accepted", name)
		}
		fx.check("header 1", 6, 4)
	}
}

func testReplace(t *testing.T, fx *fixture) {
	fx.create(10)
	fx.append(1)
	if err := fx.driver.Replace(t.Context(), fx.image("header 2", 11, 4), bodies(fx.frames[3:])); err != nil {
		t.Fatal(err)
	}
	fx.check("header 2", 11, 4)
	fx.append(1)
	fx.reopen()
	fx.check("header 2", 11, 4)
	if err := fx.driver.Replace(t.Context(), fx.image("", 12, 13), bodies(nil)); err != nil {
		t.Fatal(err)
	}
	fx.append(2)
	fx.reopen()
	fx.check("", 12, 13)
}

func testReplaceFails(t *testing.T, fx *fixture) {
	fx.create(10)
	bad := func(yield func([]byte, error) bool) { _ = yield([]byte("x"), nil) && yield(nil, errors.New("no")) }
	if err := fx.driver.Replace(t.Context(), fx.image("header 2", 10, 10), bad); err == nil {
		t.Error("took a failed iteration for its end")
	}
	if err := fx.driver.Replace(t.Context(), fx.image("header 2", 10, 1), bodies(fx.frames[:9])); err == nil {
		t.Error("accepted a snapshot beyond the last record")
	}
	fx.check("header 1", 0, 1)
	fx.append(1)
	fx.reopen()
	fx.check("header 1", 0, 1)
}

func testCancelled(t *testing.T, fx *fixture) {
	fx.create(10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := fx.driver.Replace(ctx, fx.image("header 2", 10, 1), bodies(fx.frames))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("replace: %v", err)
	}
	r, err := fx.driver.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, err := range r.Frames(ctx, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("reading: %v", err)
		}
	}
	fx.check("header 1", 0, 1)
}
