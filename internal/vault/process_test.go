// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/journal"
)

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
			change := Epoch{RecoverySecret: secretB, Position: last, State: state(last), Record: record(last)}
			must(t, v.Rekey(t.Context(), change))
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
