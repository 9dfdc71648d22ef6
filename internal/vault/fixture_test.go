// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

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
