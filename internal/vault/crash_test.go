// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

// model is what the next start must find.
type model struct {
	phase  Phase
	lines  []string // the records, if Ready; those that secret recovers, if Sealed
	secret []byte
}

// world is a vault on a disk that will crash.
type world struct {
	t    *testing.T
	disk *journaltest.Disk
	v    *Vault
	now  model // after the last step that returned
}

// step changes the world, and says what the next start must find when it has returned.
type step struct {
	name string
	do   func(*world) error
	then func(model) model
}

func same(m model) model { return m }

func (w *world) last() uint64 { return uint64(len(w.now.lines)) }

func crashConfig(disk *journaltest.Disk) Config {
	cfg := config(disk)
	cfg.HistoryLimit = 600
	return cfg
}

func openStep() step {
	return step{"open", func(w *world) error {
		v, boot, err := quiet(w.t, crashConfig(w.disk))
		if err != nil {
			return err
		}
		if boot.Phase != w.now.phase {
			w.t.Errorf("open: %+v, want %s", boot, w.now.phase)
		}
		w.v = v
		return nil
	}, same}
}

func closeStep() step {
	return step{"close", func(w *world) error { return w.v.Close(w.t.Context()) }, same}
}

func tickStep() step {
	return step{"watermark", func(w *world) error { w.v.tick(); return nil }, same}
}

// createStep starts a journal whose first record is its name.
func createStep(name, mode string, secret []byte) step {
	return step{"create " + mode, func(w *world) error {
		g := Genesis{SealMode: mode, RecoverySecret: secret, RecoveryMeta: []byte("meta"), Record: []byte(name)}
		return w.v.Create(w.t.Context(), g)
	}, func(model) model {
		if mode == Disabled {
			return model{phase: Fresh}
		}
		return model{Ready, []string{name}, secret}
	}}
}

func appendStep(n, size int) step {
	group := func(m model) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("%0*d", size, len(m.lines)+i+1))
		}
		return lines
	}
	return step{fmt.Sprintf("append %d", n), func(w *world) error {
		var payloads [][]byte
		for _, line := range group(w.now) {
			payloads = append(payloads, []byte(line))
		}
		_, err := w.v.Append(w.t.Context(), payloads)
		return err
	}, func(m model) model { return model{m.phase, append(slices.Clone(m.lines), group(m)...), m.secret} }}
}

func snapshotStep(behind uint64) step {
	return step{"snapshot", func(w *world) error {
		at := w.last() - behind
		return w.v.Snapshot(w.t.Context(), at, []byte(strings.Join(w.now.lines[:at], "\n")))
	}, same}
}

func (w *world) with(record string) (uint64, []byte, []byte) {
	lines := append(slices.Clone(w.now.lines), record)
	return uint64(len(lines)), []byte(strings.Join(lines, "\n")), []byte(record)
}

func rekeyStep(secret []byte, mode string) step {
	return step{"rekey", func(w *world) error {
		position, state, record := w.with("rekey")
		return w.v.Rekey(w.t.Context(), Epoch{mode, secret, []byte("meta"), position, state, record})
	}, func(m model) model { return model{m.phase, append(slices.Clone(m.lines), "rekey"), secret} }}
}

func modeStep(mode string) step {
	return step{"seal mode " + mode, func(w *world) error {
		position, state, record := w.with(mode)
		return w.v.SetSealMode(w.t.Context(), mode, position, state, record)
	}, func(m model) model { return model{m.phase, append(slices.Clone(m.lines), mode), m.secret} }}
}

func recoverStep() step {
	return step{"recover", func(w *world) error { return w.v.Recover(w.t.Context(), w.now.secret) },
		func(m model) model { return model{Ready, m.lines, m.secret} }}
}

func sharesStep() step {
	return step{"shares", func(w *world) error { return w.v.SaveShares(w.t.Context(), []byte("share")) }, same}
}

// Every script is stopped before each of its disk operations, with every kind
// of loss; the next start must find all that was acknowledged, and the step in
// flight done or not done.
func TestCrashAtEveryBoundary(t *testing.T) {
	life := []step{
		openStep(), createStep("genesis", "", secretA), appendStep(1, 20), appendStep(5, 40), tickStep(), snapshotStep(1),
		appendStep(3, 100), closeStep(), openStep(), rekeyStep(secretB, ""), appendStep(2, 30), snapshotStep(0),
		modeStep(UniqueKey), appendStep(1, 200), tickStep(), snapshotStep(0), rekeyStep(secretA, ProductKey), appendStep(1, 10), closeStep(), openStep(),
	}
	scripts := map[string]struct {
		start func(t *testing.T) (*journaltest.Disk, model)
		steps []step
	}{
		"life": {emptyDisk, life},
		"create over sealed": {sealedDisk, []step{
			openStep(), sharesStep(), createStep("another", "", secretB), appendStep(1, 10), closeStep(), openStep(),
		}},
		"create disabled over sealed": {sealedDisk, []step{openStep(), createStep("another", Disabled, secretB)}},
		"recover":                     {sealedDisk, []step{openStep(), sharesStep(), recoverStep(), appendStep(1, 10), closeStep(), openStep()}},
		"recover older":               {olderDisk, []step{openStep(), recoverStep(), appendStep(1, 10), snapshotStep(0), closeStep(), openStep()}},
		"open torn":                   {tornDisk, []step{openStep(), appendStep(2, 10), closeStep(), openStep()}},
		"disable": {emptyDisk, []step{
			openStep(), createStep("genesis", "", secretA), appendStep(2, 10),
			{"disable", modeStep(Disabled).do, func(model) model { return model{phase: Fresh} }},
		}},
		"enable": {emptyDisk, []step{
			openStep(), createStep("genesis", Disabled, secretA),
			{"enable", func(w *world) error {
				w.now.lines = []string{"genesis"}
				return modeStep(ProductKey).do(w)
			}, func(model) model { return model{Ready, []string{"genesis", ProductKey}, secretA} }},
			appendStep(1, 10), closeStep(), openStep(),
		}},
	}
	for name, s := range scripts {
		t.Run(name, func(t *testing.T) { crashEverywhere(t, s.start, s.steps) })
	}
}

func crashEverywhere(t *testing.T, start func(*testing.T) (*journaltest.Disk, model), steps []step) {
	for at, crashed := 1, true; crashed; at++ {
		for seed := range uint64(6) {
			disk, m := start(t)
			base := disk.Ops()
			disk.CrashAt = base + at
			w := &world{t: t, disk: disk, now: m}
			before, after, doing := run(w, steps)
			crashed = disk.Crashed()
			if !crashed && seed > 0 {
				break
			}
			loss := []journaltest.Loss{journaltest.All, journaltest.None, journaltest.Mixed}[min(seed, 2)]
			found := disk.Reboot(loss, rand.New(rand.NewPCG(uint64(at), seed)))
			if err := findsEither(t, found, before, after); err != nil {
				t.Fatalf("crash before operation %d (%s), loss %d, seed %d: %v\nfiles %v",
					at, doing, loss, seed, err, files(found))
			}
		}
	}
}

// run does steps until the crash; it returns what the next start may find.
func run(w *world, steps []step) (before, after model, doing string) {
	for _, s := range steps {
		err := s.do(w)
		next := s.then(w.now)
		if w.disk.Crashed() {
			return w.now, next, s.name
		}
		if err != nil {
			w.t.Fatalf("%s: %v", s.name, err)
		}
		w.now = next
	}
	return w.now, w.now, "after the end"
}

// findsEither starts on a disk and compares with two models.
func findsEither(t *testing.T, disk *journaltest.Disk, before, after model) error {
	t.Helper()
	got, err := look(t, disk)
	if err != nil {
		return err
	}
	for _, want := range []model{before, after} {
		if got.phase == want.phase && (want.phase != Ready || slices.Equal(got.lines, want.lines)) {
			return recovers(t, disk, want)
		}
	}
	return fmt.Errorf("found %+v,\nwant %+v\nor %+v", got, before, after)
}

func look(t *testing.T, disk *journaltest.Disk) (model, error) {
	v, boot, err := quiet(t, crashConfig(disk))
	if err != nil {
		return model{}, err
	}
	defer v.Close(t.Context())
	m := model{phase: boot.Phase}
	if boot.Phase == Ready {
		m.lines = content(t, v)
		kept := history(t, v, 0)
		if !slices.Equal(kept, m.lines[v.HistoryStart()-1:]) {
			return m, fmt.Errorf("history from %d is %v", v.HistoryStart(), kept)
		}
	}
	if boot.Phase == Sealed {
		m.lines = []string{boot.Reason}
	}
	return m, nil
}

// recovers checks that the model's secret opens what is there, on another machine too.
func recovers(t *testing.T, disk *journaltest.Disk, want model) error {
	t.Helper()
	if want.phase == Fresh {
		return nil
	}
	drop(disk, "sealed_key")
	v, boot, err := quiet(t, crashConfig(disk))
	if err != nil || boot.Phase != Sealed {
		return fmt.Errorf("without sealed_key: %+v, %w", boot, err)
	}
	defer v.Close(t.Context())
	if err := v.Recover(t.Context(), want.secret); err != nil {
		return err
	}
	if got := content(t, v); !slices.Equal(got, want.lines) {
		return fmt.Errorf("recovered %v, want %v", got, want.lines)
	}
	return nil
}

func emptyDisk(*testing.T) (*journaltest.Disk, model) {
	return journaltest.NewDisk(), model{phase: Fresh}
}

func sealedDisk(t *testing.T) (*journaltest.Disk, model) {
	t.Helper()
	disk := journaltest.NewDisk()
	w := &world{t: t, disk: disk, now: model{phase: Fresh}}
	run(w, []step{openStep(), createStep("old", "", secretA), appendStep(3, 30), snapshotStep(1), closeStep()})
	drop(disk, "sealed_key")
	w.now.phase = Sealed
	return disk, w.now
}

// olderDisk has a sealed_data restored from a backup beside a newer sealed_key.
func olderDisk(t *testing.T) (*journaltest.Disk, model) {
	t.Helper()
	disk := journaltest.NewDisk()
	w := &world{t: t, disk: disk, now: model{phase: Fresh}}
	run(w, []step{openStep(), createStep("old", "", secretA), appendStep(3, 30), snapshotStep(1), appendStep(1, 10)})
	backup, m := disk.Files()["d/sealed_data"], w.now
	run(w, []step{appendStep(1, 10), closeStep()})
	disk.Put("d/sealed_data", backup)
	m.phase = Sealed
	return disk, m
}

// tornDisk has the first half of a write at its end.
func tornDisk(t *testing.T) (*journaltest.Disk, model) {
	t.Helper()
	disk := journaltest.NewDisk()
	w := &world{t: t, disk: disk, now: model{phase: Fresh}}
	run(w, []step{openStep(), createStep("old", "", secretA), appendStep(3, 30), closeStep()})
	whole := disk.Files()["d/sealed_data"]
	run(w, []step{openStep(), appendStep(1, 10)})
	torn := disk.Files()["d/sealed_data"]
	disk = disk.Reboot(journaltest.None, nil)
	disk.Put("d/sealed_data", torn[:(len(whole)+len(torn))/2])
	w.now.lines = w.now.lines[:4]
	return disk, w.now
}

// After a crash while old state was replaced, it is still there or was set aside whole.
func TestOldStateIsNeverLost(t *testing.T) {
	for _, mode := range []string{ProductKey, Disabled} {
		for at := 1; ; at++ {
			disk, m := sealedDisk(t)
			old := disk.Files()["d/sealed_data"]
			disk.CrashAt = disk.Ops() + at
			run(&world{t: t, disk: disk, now: m}, []step{openStep(), createStep("another", mode, secretB)})
			for _, loss := range []journaltest.Loss{journaltest.All, journaltest.None} {
				kept := false
				for name, data := range disk.Reboot(loss, nil).Files() {
					kept = kept || strings.HasPrefix(filepath.Base(name), "sealed_data") && bytes.Equal(data, old)
				}
				if !kept {
					t.Fatalf("%s: crash before operation %d: the old state is gone", mode, at)
				}
			}
			if !disk.Crashed() {
				break
			}
		}
	}
}

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
		openStep(), createStep("genesis", "", secretA), appendStep(2, 20), tickStep(), snapshotStep(1), appendStep(1, 10),
		rekeyStep(secretB, ""), appendStep(1, 10), modeStep(UniqueKey), appendStep(1, 10), closeStep(),
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
	if w.now.phase == Ready && !slices.Equal(history(t, w.v, w.v.HistoryStart()-1), w.now.lines[w.v.HistoryStart()-1:]) {
		t.Error("the history of a broken journal cannot be read")
	}
}
