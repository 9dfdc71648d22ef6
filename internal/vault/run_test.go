// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

// The watermark follows writes at most once a second, and the last write within a second.
func TestWatermarkTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := journaltest.NewDisk()
		var written atomic.Int32
		disk.Fail = func(op, path string) error {
			if op == "rename" && strings.HasSuffix(path, "sealed_key") {
				written.Add(1)
			}
			return nil
		}
		v, _, err := Open(t.Context(), config(disk))
		must(t, err)
		must(t, v.Create(t.Context(), genesis(secretA)))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		written.Store(0)
		for range 100 { // ten seconds of writing
			add(t, v, 1)
			time.Sleep(100 * time.Millisecond)
		}
		if n := written.Load(); n < 9 || n > 11 {
			t.Errorf("%d watermarks in 10 s of writing", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		after := written.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if written.Load() != after {
			t.Error("watermarks without writes")
		}

		// Without a clean stop the watermark covers all of it.
		found := disk.Reboot(journaltest.None, nil)
		data := found.Files()["d/sealed_data"]
		found.Put("d/sealed_data", data[:len(data)-1])
		_, boot := mustOpen(t, config(found), Sealed)
		if !strings.Contains(boot.Reason, "it ends at record 100, sealed_key has seen record 101") {
			t.Errorf("reason %q", boot.Reason)
		}
		must(t, v.Close(t.Context()))
	})
}

// A watermark that cannot be written costs nothing but the watermark.
func TestWatermarkFailureIsNotFatal(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 2)
	disk.Fail = func(op, path string) error {
		if strings.Contains(path, "sealed_key") {
			return errors.New("no")
		}
		return nil
	}
	v.tick()
	add(t, v, 2)
	must(t, v.Snapshot(t.Context(), 3, state(3)))
	add(t, v, 1)
	expect(t, v, 5)
	disk.Fail = nil
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, config(disk), Ready)
	expect(t, v, 5)
}

func TestSnapshotPrunesHistory(t *testing.T) {
	disk := journaltest.NewDisk()
	cfg := config(disk)
	cfg.HistoryLimit, cfg.TailLimit = 2000, 1500
	v := create(t, cfg, 1)
	if v.NeedsSnapshot() {
		t.Error("a snapshot is due at once")
	}
	for last := uint64(1); last < 400; last++ {
		add(t, v, 1)
		if !v.NeedsSnapshot() {
			continue
		}
		must(t, v.Snapshot(t.Context(), last-3, nil))
		if v.at.Tail > 5*60 || v.NeedsSnapshot() {
			t.Fatalf("after a snapshot 4 records behind the end, %d bytes follow it", v.at.Tail)
		}
		if v.at.Retained > 2000 {
			t.Fatalf("%d bytes are retained", v.at.Retained)
		}
	}
	start := v.HistoryStart()
	if start < 300 {
		t.Errorf("history begins at %d", start)
	}
	before := v.at
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, cfg, Ready)
	if v.at != before {
		t.Errorf("reopened at %+v, was %+v", v.at, before)
	}
	if got := history(t, v, 0); len(got) != int(400-start+1) || got[0] != string(record(start)) {
		t.Errorf("%d records from %q", len(got), got[0])
	}
	if got := history(t, v, 398); !slices.Equal(got, []string{"record 399", "record 400"}) {
		t.Errorf("after 398: %v", got)
	}

	// The tail is never pruned, however long.
	must(t, v.Snapshot(t.Context(), 399, nil))
	for range 100 {
		add(t, v, 1)
	}
	must(t, v.Snapshot(t.Context(), 400, nil))
	if v.HistoryStart() != 401 {
		t.Errorf("history begins at %d", v.HistoryStart())
	}
	if got := history(t, v, 400); len(got) != 100 {
		t.Errorf("%d records of the tail are left", len(got))
	}
}

func TestSnapshotArguments(t *testing.T) {
	v := create(t, config(journaltest.NewDisk()), 5)
	if err := v.Snapshot(t.Context(), 6, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("snapshot beyond the end: %v", err)
	}
	must(t, v.Snapshot(t.Context(), 4, state(4)))
	must(t, v.Snapshot(t.Context(), 2, []byte("stale")))
	must(t, v.Snapshot(t.Context(), 4, []byte("stale")))
	expect(t, v, 5)
}

func TestHistoryStops(t *testing.T) {
	v := create(t, config(journaltest.NewDisk()), 9)
	var seen []uint64
	stop := errors.New("stop")
	visit := func(err error) func(Record) (bool, error) {
		return func(r Record) (bool, error) {
			seen = append(seen, r.Position)
			return len(seen) < 3, err
		}
	}
	must(t, v.History(t.Context(), 4, visit(nil)))
	if !slices.Equal(seen, []uint64{5, 6, 7}) {
		t.Errorf("saw %v", seen)
	}
	if err := v.History(t.Context(), 4, visit(stop)); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.History(ctx, 0, visit(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
