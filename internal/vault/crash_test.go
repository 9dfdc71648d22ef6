// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

// Every script is stopped before each of its disk operations, with every kind
// of loss; the next start must find all that was acknowledged, and the step in
// flight done or not done.
func TestCrashAtEveryBoundary(t *testing.T) {
	life := []step{
		openStep(), createStep("genesis", "", secretA), appendStep(1, 20), appendStep(5, 40), tickStep(),
		snapshotStep(1), appendStep(3, 100), closeStep(), openStep(),
		rekeyStep(secretB, ""), appendStep(2, 30), snapshotStep(0),
		modeStep(UniqueKey), appendStep(1, 200), tickStep(), snapshotStep(0),
		rekeyStep(secretA, ProductKey), appendStep(1, 10), closeStep(), openStep(),
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
		"recover": {sealedDisk, []step{
			openStep(), sharesStep(), recoverStep(), appendStep(1, 10), closeStep(), openStep(),
		}},
		"recover older": {olderDisk, []step{
			openStep(), recoverStep(), appendStep(1, 10), snapshotStep(0), closeStep(), openStep(),
		}},
		"open torn": {tornDisk, []step{openStep(), appendStep(2, 10), closeStep(), openStep()}},
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
