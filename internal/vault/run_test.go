// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marblerun/marblerun/internal/journal"
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

// One writer, a goroutine for snapshots and several readers; for the race detector.
func TestConcurrentUse(t *testing.T) {
	cfg := config(nil)
	cfg.Dir, cfg.HistoryLimit = t.TempDir(), 20_000
	v := create(t, cfg, 1)
	v.interval = time.Millisecond
	stop, done := make(chan struct{}), make(chan error)
	loop := func(f func() error) {
		var err error
		for err == nil {
			select {
			case <-stop:
				done <- nil
				return
			default:
				err = f()
			}
		}
		done <- err
	}
	go loop(func() error {
		_, at, err := v.current()
		return errors.Join(err, v.Snapshot(t.Context(), at.Last, state(at.Last)))
	})
	for range 3 {
		go loop(func() error {
			next := v.HistoryStart()
			return v.History(t.Context(), next, func(r Record) (bool, error) {
				if next++; string(r.Payload) != string(record(r.Position)) || r.Position < next {
					return false, fmt.Errorf("record %d is %q", r.Position, r.Payload)
				}
				return true, nil
			})
		})
	}
	for i := range uint64(300) {
		add(t, v, 1)
		if i%100 == 99 {
			_, at, _ := v.current()
			last := at.Last + 1
			must(t, v.Rekey(t.Context(), Epoch{RecoverySecret: secretB, Position: last, State: state(last), Record: record(last)}))
		}
	}
	close(stop)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	expect(t, v, 304)
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, cfg, Ready)
	expect(t, v, 304)
}

// A copy of sealed_data taken at any moment has everything acknowledged before the copy began.
func TestLiveCopyIsABackup(t *testing.T) {
	cfg := config(nil)
	cfg.Dir = t.TempDir()
	v := create(t, cfg, 1)
	var acknowledged atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		rng := rand.New(rand.NewPCG(1, 2))
		for last := uint64(1); ; {
			select {
			case <-stop:
				return
			default:
			}
			var group [][]byte
			for range 1 + rng.IntN(30) {
				group = append(group, append(record(last+uint64(len(group))+1), make([]byte, rng.IntN(2000))...))
			}
			var err error
			if last, err = v.Append(t.Context(), group); err != nil {
				t.Error(err)
				return
			}
			acknowledged.Store(last)
			if rng.IntN(5) == 0 {
				if err := v.Snapshot(t.Context(), last, make([]byte, rng.IntN(100_000))); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for range 30 {
		least := acknowledged.Load()
		backup := t.TempDir()
		data, err := os.ReadFile(filepath.Join(cfg.Dir, "sealed_data"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(backup, "sealed_data"), data, 0o600))
		copied := config(nil)
		copied.Dir = backup
		b, _ := mustOpen(t, copied, Sealed)
		must(t, b.Recover(t.Context(), secretA))
		next := uint64(1)
		must(t, b.History(t.Context(), 0, func(r Record) (bool, error) {
			if r.Position != next || !bytes.HasPrefix(r.Payload, record(next)) {
				return false, fmt.Errorf("record %d is %.20q", r.Position, r.Payload)
			}
			next++
			return true, nil
		}))
		if next <= least {
			t.Errorf("the copy has %d records, %d were acknowledged before", next-1, least)
		}
		must(t, b.Close(t.Context()))
	}
	close(stop)
	<-done
}

const childDir = "VAULT_TEST_CHILD_DIR"

// TestChild is the other process: it opens the directory, appends, and prints what is acknowledged.
func TestChild(t *testing.T) {
	cfg := config(nil)
	if cfg.Dir = os.Getenv(childDir); cfg.Dir == "" {
		t.Skip("runs only in a child process")
	}
	v, boot, err := Open(t.Context(), cfg)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	if boot.Phase == Fresh {
		must(t, v.Create(t.Context(), genesis(secretA)))
	}
	for {
		_, at, err := v.current()
		must(t, err)
		last, err := v.Append(t.Context(), [][]byte{record(at.Last + 1), record(at.Last + 2)})
		must(t, err)
		if last%10 < 2 {
			must(t, v.Snapshot(t.Context(), last, state(last)))
		}
		fmt.Println("acknowledged", last)
	}
}

// Two processes cannot have one directory; one that is killed leaves it free,
// with everything that it acknowledged.
func TestTwoProcesses(t *testing.T) {
	cfg := config(nil)
	cfg.Dir = t.TempDir()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestChild$")
		child.Env = append(os.Environ(), childDir+"="+cfg.Dir)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		acknowledged := uint64(0)
		for stop := 3 + rng.IntN(30); stop > 0 && lines.Scan(); stop-- {
			n, ok := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !ok {
				t.Fatalf("the child says %q", lines.Text())
			}
			acknowledged, err = strconv.ParseUint(n, 10, 64)
			must(t, err)
		}
		_, _, err = Open(t.Context(), cfg)
		var advice *Error
		if !errors.Is(err, journal.ErrLocked) || !errors.As(err, &advice) {
			t.Errorf("opened twice: %v", err)
		}
		must(t, child.Process.Kill())
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
				acknowledged, _ = strconv.ParseUint(n, 10, 64)
			}
		}
		_ = child.Wait()
		v, _ := mustOpen(t, cfg, Ready)
		_, at, err := v.current()
		must(t, err)
		if at.Last < acknowledged {
			t.Fatalf("%d records are left of %d acknowledged", at.Last, acknowledged)
		}
		expect(t, v, at.Last)
		must(t, v.Close(t.Context()))
	}
}

var update = flag.Bool("update", false, "write the format fixtures anew")

// Files of every released format open: testdata/<format> has one sample each.
func TestFixtures(t *testing.T) {
	if *update {
		writeFixture(t, filepath.Join("testdata", "v1"))
	}
	formats, err := filepath.Glob(filepath.Join("testdata", "v*"))
	must(t, err)
	if len(formats) == 0 {
		t.Fatal("no fixtures")
	}
	for _, format := range formats {
		t.Run(filepath.Base(format), func(t *testing.T) {
			disk := journaltest.NewDisk()
			for _, name := range []string{"sealed_data", "sealed_key"} {
				data, err := os.ReadFile(filepath.Join(format, name))
				must(t, err)
				disk.Put(filepath.Join(dir, name), data)
			}
			v, _ := mustOpen(t, config(disk), Ready)
			expect(t, v, 13)
			if v.HistoryStart() != 3 || v.epoch.Number != 2 || v.at.Snapshot != 11 {
				t.Errorf("history from %d, epoch %d, snapshot at %d", v.HistoryStart(), v.epoch.Number, v.at.Snapshot)
			}
			must(t, v.Close(t.Context()))
			drop(disk, "sealed_key")
			v, boot := mustOpen(t, config(disk), Sealed)
			if string(boot.Recovery) != "meta B" {
				t.Errorf("recovery meta %q", boot.Recovery)
			}
			must(t, v.Recover(t.Context(), secretB))
			expect(t, v, 13)
		})
	}
}

// writeFixture: 10 records, snapshot at 6 with records 1 and 2 forgotten, new epoch with record 11, 2 more.
func writeFixture(t *testing.T, to string) {
	t.Helper()
	disk := journaltest.NewDisk()
	s := takeSample(t)
	disk.Put("d/sealed_data", s.data)
	disk.Put("d/sealed_key", s.key)
	v, _ := mustOpen(t, config(disk), Ready)
	must(t, v.Rekey(t.Context(), Epoch{"", secretB, []byte("meta B"), 11, state(11), record(11)}))
	add(t, v, 2)
	must(t, v.Close(t.Context()))
	must(t, os.MkdirAll(to, 0o755))
	for _, name := range []string{"sealed_data", "sealed_key"} {
		must(t, os.WriteFile(filepath.Join(to, name), disk.Files()[filepath.Join(dir, name)], 0o600))
	}
}

// Whatever lies in the directory: Open says what it is, and never shows other records than were written.
func FuzzOpen(f *testing.F) {
	s := takeSample(f)
	f.Add(s.data, s.key)
	f.Add(s.data[:len(s.data)-5], s.key)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, data, key []byte) {
		disk := journaltest.NewDisk()
		disk.Put("d/sealed_data", append([]byte{}, data...))
		disk.Put("d/sealed_key", append([]byte{}, key...))
		v, boot, err := quiet(t, config(disk))
		var advice *Error
		if err != nil {
			if !errors.As(err, &advice) {
				t.Fatal(err)
			}
			return
		}
		defer v.Close(t.Context())
		if boot.Phase == Ready {
			_, at, _ := v.current()
			expect(t, v, at.Last)
		} else if boot.Reason == "" {
			t.Error("sealed without a reason")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, group := range []int{1, 64} {
		for _, where := range []string{"file", "memory"} {
			b.Run(fmt.Sprintf("%s/group=%d", where, group), func(b *testing.B) {
				cfg := config(nil)
				cfg.Dir = b.TempDir()
				g := genesis(secretA)
				if where == "memory" {
					g.SealMode = Disabled
				}
				v, _ := mustOpen(b, cfg, Fresh)
				must(b, v.Create(b.Context(), g))
				payloads := slices.Repeat([][]byte{make([]byte, 700)}, group)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					_, err := v.Append(b.Context(), payloads)
					must(b, err)
					n += group
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
			})
		}
	}
}

func BenchmarkOpenAndReplay(b *testing.B) {
	for _, tail := range []bool{true, false} {
		b.Run(fmt.Sprintf("100k records, in the tail=%t", tail), func(b *testing.B) {
			cfg := config(nil)
			cfg.Dir = b.TempDir()
			v, _ := mustOpen(b, cfg, Fresh)
			must(b, v.Create(b.Context(), genesis(secretA)))
			for range 1000 {
				_, err := v.Append(b.Context(), slices.Repeat([][]byte{make([]byte, 500)}, 100))
				must(b, err)
			}
			if !tail {
				must(b, v.Snapshot(b.Context(), 100_001, nil))
			}
			must(b, v.Close(b.Context()))
			for b.Loop() {
				v, _ := mustOpen(b, cfg, Ready)
				must(b, v.Replay(b.Context(), func([]byte) error { return nil }, func(Record) error { return nil }))
				must(b, v.Close(b.Context()))
			}
		})
	}
}
