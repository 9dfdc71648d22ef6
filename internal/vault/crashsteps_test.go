// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
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
