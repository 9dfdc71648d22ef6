// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

// On a disk with room for every number of bytes: what is refused changes
// nothing, and when there is room again everything goes on.
func TestFullDisk(t *testing.T) {
	steps := []step{
		createStep("genesis", "", secretA), appendStep(1, 20), appendStep(5, 40), snapshotStep(1), appendStep(3, 100),
		rekeyStep(secretB, ""), modeStep(UniqueKey), snapshotStep(0), appendStep(1, 200),
	}
	for space := int64(0); ; space += 37 {
		disk := journaltest.NewDisk()
		w := &world{t: t, disk: disk, now: model{phase: Fresh}}
		run(w, []step{openStep()})
		disk.Space = space
		refused := fillUp(t, w, steps)
		if got, err := look(t, disk.Reboot(journaltest.All, nil)); err != nil || !slices.Equal(got.lines, w.now.lines) {
			t.Fatalf("%d bytes: %+v, %v\nwant %+v", space, got, err, w.now)
		}
		if !refused {
			return
		}
	}
}

// fillUp runs steps; those refused for want of space are tried again with room.
func fillUp(t *testing.T, w *world, steps []step) (refused bool) {
	t.Helper()
	for _, s := range steps {
		err := s.do(w)
		if errors.Is(err, ErrFull) {
			refused = true
			if w.now.phase == Ready && !slices.Equal(content(t, w.v), w.now.lines) {
				t.Fatalf("%s was refused and changed something", s.name)
			}
			room := w.disk.Space
			w.disk.Space = -1
			err = s.do(w)
			w.disk.Space = room
		}
		if err != nil {
			t.Fatalf("%s with %d bytes: %v", s.name, w.disk.Space, err)
		}
		w.now = s.then(w.now)
	}
	return refused
}

// Whichever sync fails: the step fails or is done, nothing is appended after a
// broken one, and the next start finds what was acknowledged.
func TestFailedSync(t *testing.T) {
	steps := []step{
		openStep(), createStep("genesis", "", secretA), appendStep(2, 20), tickStep(), snapshotStep(1),
		appendStep(1, 10), rekeyStep(secretB, ""), appendStep(1, 10), modeStep(UniqueKey), appendStep(1, 10),
		closeStep(),
	}
	for n := 1; ; n++ {
		disk := journaltest.NewDisk()
		syncs := 0
		disk.Fail = func(op, _ string) error {
			if op == "sync" || op == "syncdir" {
				if syncs++; syncs == n {
					return errors.New("input/output error")
				}
			}
			return nil
		}
		w := &world{t: t, disk: disk, now: model{phase: Fresh}}
		next := w.now
		for _, s := range steps {
			next = s.then(w.now)
			if err := s.do(w); err != nil {
				if s.name != "close" {
					brokenStaysBroken(t, w, err)
				}
				break
			}
			w.now = next
		}
		for _, loss := range []journaltest.Loss{journaltest.All, journaltest.None} {
			if err := findsEither(t, disk.Reboot(loss, nil), w.now, next); err != nil {
				t.Fatalf("sync %d failed, loss %d: %v", n, loss, err)
			}
		}
		if syncs < n {
			return
		}
	}
}

func brokenStaysBroken(t *testing.T, w *world, err error) {
	t.Helper()
	if !errors.Is(err, ErrBroken) {
		return
	}
	if _, err := w.v.Append(t.Context(), [][]byte{{1}}); w.now.phase == Ready && !errors.Is(err, ErrBroken) {
		t.Errorf("appended to a broken journal: %v", err)
	}
	if w.now.phase != Ready {
		return
	}
	if first := w.v.HistoryStart(); !slices.Equal(history(t, w.v, first-1), w.now.lines[first-1:]) {
		t.Error("the history of a broken journal cannot be read")
	}
}

// failing is a disk that cannot be read.
type failing struct {
	journal.FS
	name       string
	open, read error
}

type failingFile struct {
	journal.File
	err error
}

func (f failingFile) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func (f failing) OpenFile(path string, flag int) (journal.File, error) {
	if !strings.HasSuffix(path, f.name) || flag&os.O_CREATE != 0 {
		return f.FS.OpenFile(path, flag)
	}
	if f.open != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: f.open}
	}
	inner, err := f.FS.OpenFile(path, flag)
	return failingFile{inner, f.read}, err
}

// A disk error is an error, never "no state found" and never "damaged".
func TestDiskErrorIsFatal(t *testing.T) {
	s := takeSample(t)
	for _, name := range []string{"sealed_data", "sealed_key"} {
		for _, fs := range []failing{{open: syscall.EACCES}, {open: syscall.EIO}, {read: syscall.EIO}} {
			disk := journaltest.NewDisk()
			disk.Put("d/sealed_data", s.data)
			disk.Put("d/sealed_key", s.key)
			fs.FS, fs.name = disk, name
			if _, boot, err := Open(t.Context(), config(fs)); err == nil {
				t.Errorf("%s, open: %v, read: %v: %+v", name, fs.open, fs.read, boot)
			}
		}
	}
}
