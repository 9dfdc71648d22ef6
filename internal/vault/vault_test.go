// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/journaltest"
	"github.com/marblerun/marblerun/internal/seal"
)

const dir = "d"

// Recovery secrets.
var (
	secretA = bytes.Repeat([]byte{0xA}, 32)
	secretB = bytes.Repeat([]byte{0xB}, 32)
)

func config(disk journal.FS) Config {
	return Config{Dir: dir, TEE: Simulation, Sealers: seal.Simulation(), Now: time.Now, FS: disk}
}

// quiet opens a vault whose watermarks are written only when the test says so.
func quiet(t testing.TB, cfg Config) (*Vault, Boot, error) {
	t.Helper()
	v, boot, err := Open(t.Context(), cfg)
	if err == nil {
		v.interval = time.Hour
	}
	return v, boot, err
}

func mustOpen(t testing.TB, cfg Config, phase Phase) (*Vault, Boot) {
	t.Helper()
	v, boot, err := quiet(t, cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if boot.Phase != phase {
		t.Fatalf("open: %+v, want phase %s", boot, phase)
	}
	t.Cleanup(func() { _ = v.Close(t.Context()) })
	return v, boot
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func genesis(secret []byte) Genesis {
	return Genesis{RecoverySecret: secret, RecoveryMeta: []byte("meta"), Record: []byte("record 1")}
}

// create makes a journal with records 1 … n.
func create(t testing.TB, cfg Config, n int) *Vault {
	t.Helper()
	v, _ := mustOpen(t, cfg, Fresh)
	must(t, v.Create(t.Context(), genesis(secretA)))
	add(t, v, n-1)
	return v
}

// add appends records one by one.
func add(t testing.TB, v *Vault, n int) {
	t.Helper()
	for range n {
		_, at, err := v.current()
		must(t, err)
		last, err := v.Append(t.Context(), [][]byte{record(at.Last + 1)})
		if err != nil || last != at.Last+1 {
			t.Fatalf("append: %d, %v", last, err)
		}
	}
}

func record(position uint64) []byte { return fmt.Appendf(nil, "record %d", position) }

// state is the state of a journal whose state is the list of its records.
func state(last uint64) []byte {
	var lines []string
	for p := range last {
		lines = append(lines, string(record(p+1)))
	}
	return []byte(strings.Join(lines, "\n"))
}

// content replays a vault: the state, and after it the records that follow the snapshot.
func content(t testing.TB, v *Vault) []string {
	t.Helper()
	var lines []string
	err := v.Replay(t.Context(), func(s []byte) error {
		lines = strings.Split(string(s), "\n")
		return nil
	}, func(r Record) error {
		if want := uint64(len(lines) + 1); r.Position != want {
			t.Errorf("record %d where %d is due", r.Position, want)
		}
		lines = append(lines, string(r.Payload))
		return nil
	})
	must(t, err)
	return lines
}

func history(t testing.TB, v *Vault, after uint64) []string {
	t.Helper()
	var lines []string
	must(t, v.History(t.Context(), after, func(r Record) (bool, error) {
		lines = append(lines, string(r.Payload))
		return true, nil
	}))
	return lines
}

// expect checks that a vault has exactly the records 1 … last, in its state and in its history.
func expect(t testing.TB, v *Vault, last uint64) {
	t.Helper()
	want := strings.Split(string(state(last)), "\n")
	if diff := cmp.Diff(want, content(t, v)); diff != "" {
		t.Errorf("replay (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[v.HistoryStart()-1:], history(t, v, 0)); diff != "" {
		t.Errorf("history from %d (-want +got):\n%s", v.HistoryStart(), diff)
	}
}

func files(disk *journaltest.Disk) []string {
	var out []string
	for name := range disk.Files() {
		out = append(out, filepath.Base(name))
	}
	slices.Sort(out)
	return out
}

func drop(disk *journaltest.Disk, name string) { disk.Put(filepath.Join(dir, name), nil) }

// The contract's conformance checks 1 to 4, 6 and 7, on the real file system.
func TestLifecycle(t *testing.T) {
	cfg := config(nil)
	cfg.Dir = filepath.Join(t.TempDir(), "a", "b")
	v, _ := mustOpen(t, cfg, Fresh)
	if names, err := os.ReadDir(cfg.Dir); err != nil || len(names) != 0 {
		t.Errorf("the directory is not empty before a manifest is set: %v, %v", names, err)
	}
	must(t, v.Create(t.Context(), genesis(secretA)))
	add(t, v, 3)
	expect(t, v, 4)
	must(t, v.Snapshot(t.Context(), 3, state(3)))
	expect(t, v, 4)
	must(t, v.Close(t.Context()))
	modes := map[string]fs.FileMode{".": 0o700 | fs.ModeDir, "sealed_data": 0o600, "sealed_key": 0o600}
	got := map[string]fs.FileMode{}
	must(t, fs.WalkDir(os.DirFS(cfg.Dir), ".", func(path string, d fs.DirEntry, _ error) error {
		info, err := d.Info()
		got[path] = info.Mode()
		return err
	}))
	if diff := cmp.Diff(modes, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	v, _ = mustOpen(t, cfg, Ready)
	expect(t, v, 4)
	add(t, v, 2)
	must(t, v.Close(t.Context()))

	must(t, os.Remove(filepath.Join(cfg.Dir, "sealed_key")))
	v, boot := mustOpen(t, cfg, Sealed)
	if string(boot.Recovery) != "meta" || boot.Reason != "sealed_key is missing" || boot.Foreign {
		t.Errorf("boot %+v", boot)
	}
	if err := v.Recover(t.Context(), secretB); !errors.Is(err, ErrWrongKey) {
		t.Errorf("recovered with another secret: %v", err)
	}
	must(t, v.Recover(t.Context(), secretA))
	expect(t, v, 6)
	add(t, v, 1)
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, cfg, Ready)
	expect(t, v, 7)
}

// Check 8: a new manifest in state 1 sets the old state aside, whole.
func TestCreateOverSealed(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 3)
	id := v.epoch.Journal.String()
	must(t, v.Close(t.Context()))
	old := disk.Files()
	key := old[filepath.Join(dir, "sealed_key")]
	for round, suffix := range []string{"", ".1"} {
		disk.Put("d/sealed_data", append(bytes.Clone(old["d/sealed_data"]), make([]byte, round)...))
		disk.Put("d/sealed_key", key[:len(key)-1])
		v, _ = mustOpen(t, config(disk), Sealed)
		must(t, v.Create(t.Context(), genesis(secretB)))
		expect(t, v, 1)
		must(t, v.Close(t.Context()))
		v, _ = mustOpen(t, config(disk), Ready)
		expect(t, v, 1)
		must(t, v.Close(t.Context()))
		for _, name := range []string{"sealed_data", "sealed_key"} {
			_, ok := disk.Files()[filepath.Join(dir, name+"."+id+".dropped"+suffix)]
			if !ok && (round == 0 || name == "sealed_data") {
				t.Errorf("%s%s is not there: %v", name, suffix, files(disk))
			}
		}
		if !bytes.Equal(disk.Files()["d/sealed_data."+id+".dropped"], old["d/sealed_data"]) {
			t.Error("what was set aside first is not the old state any more")
		}
	}

	// Putting the old files back brings the old state back.
	disk.Put("d/sealed_data", old["d/sealed_data"])
	disk.Put("d/sealed_key", key)
	v, _ = mustOpen(t, config(disk), Ready)
	expect(t, v, 3)
}

// Check 5: nothing is written in seal mode Disabled, and old state is set aside (Q6).
func TestDisabled(t *testing.T) {
	disk := journaltest.NewDisk()
	g := genesis(secretA)
	g.SealMode = Disabled
	v, _ := mustOpen(t, config(disk), Fresh)
	must(t, v.Create(t.Context(), g))
	add(t, v, 3)
	must(t, v.Snapshot(t.Context(), 2, state(2)))
	expect(t, v, 4)
	must(t, v.Close(t.Context()))
	if got := files(disk); len(got) != 0 {
		t.Errorf("files %v", got)
	}

	v = create(t, config(disk), 2)
	id := v.epoch.Journal.String()
	must(t, v.Close(t.Context()))
	drop(disk, "sealed_key")
	v, _ = mustOpen(t, config(disk), Sealed)
	must(t, v.Create(t.Context(), g))
	expect(t, v, 1)
	must(t, v.Close(t.Context()))
	if diff := cmp.Diff([]string{"sealed_data." + id + ".dropped"}, files(disk)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	mustOpen(t, config(disk), Fresh)
}

func TestPhases(t *testing.T) {
	disk := journaltest.NewDisk()
	v, _ := mustOpen(t, config(disk), Fresh)
	_, err := v.Append(t.Context(), [][]byte{{1}})
	refused := map[string]error{
		"append": err, "snapshot": v.Snapshot(t.Context(), 1, nil), "recover": v.Recover(t.Context(), secretA),
		"rekey": v.Rekey(t.Context(), Epoch{Position: 1, Record: []byte{}}), "shares": v.SaveShares(t.Context(), nil),
		"history": v.History(t.Context(), 0, nil), "replay": v.Replay(t.Context(), nil, nil),
	}
	must(t, v.Create(t.Context(), genesis(nil)))
	refused["create"] = v.Create(t.Context(), genesis(nil))
	refused["recover when ready"] = v.Recover(t.Context(), secretA)
	for name, err := range refused {
		if !errors.Is(err, ErrPhase) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, v.Close(t.Context()))
	must(t, v.Close(t.Context()))
	if _, err := v.Append(t.Context(), nil); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	drop(disk, "sealed_key")
	v, boot := mustOpen(t, config(disk), Sealed)
	if err := v.Recover(t.Context(), secretA); boot.Recovery != nil || !errors.Is(err, ErrNoRecovery) {
		t.Errorf("recovery without a slot: %+v, %v", boot, err)
	}
}
