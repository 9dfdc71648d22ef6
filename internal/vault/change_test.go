// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

// A new recovery secret opens what the old one does not, and everything is still there.
func TestRekey(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 5)
	must(t, v.Snapshot(t.Context(), 3, state(3)))
	for _, wrong := range []uint64{5, 7} {
		if err := v.Rekey(t.Context(), Epoch{Position: wrong, Record: record(6)}); !errors.Is(err, ErrConflict) {
			t.Errorf("rekey at %d after 5: %v", wrong, err)
		}
	}
	before := disk.Files()
	change := Epoch{"", secretB, []byte("meta B"), 6, state(6), record(6)}
	must(t, v.Rekey(t.Context(), change))
	expect(t, v, 6)
	add(t, v, 2)
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, config(disk), Ready)
	expect(t, v, 8)
	must(t, v.Close(t.Context()))
	after := disk.Files()

	for name, c := range map[string]struct {
		data, key []byte
		reason    string
		secret    []byte
		last      uint64
		epoch     uint64
	}{
		"old data, new key": {
			before["d/sealed_data"], after["d/sealed_key"], "sealed_data is older than sealed_key", secretA, 5, 3,
		},
		"new data, old key": {
			after["d/sealed_data"], before["d/sealed_key"], "sealed_key is older than sealed_data", secretB, 8, 2,
		},
		"no key": {after["d/sealed_data"], nil, "sealed_key is missing", secretB, 8, 2},
	} {
		t.Run(name, func(t *testing.T) {
			disk.Put("d/sealed_data", c.data)
			disk.Put("d/sealed_key", c.key)
			v, boot := mustOpen(t, config(disk), Sealed)
			if !strings.Contains(boot.Reason, c.reason) {
				t.Errorf("reason %q", boot.Reason)
			}
			wrong := secretA
			if bytes.Equal(c.secret, secretA) {
				wrong = secretB
			}
			if err := v.Recover(t.Context(), wrong); !errors.Is(err, ErrWrongKey) {
				t.Errorf("the wrong secret: %v", err)
			}
			must(t, v.Recover(t.Context(), c.secret))
			expect(t, v, c.last)
			if v.epoch.Number != c.epoch {
				t.Errorf("continues in epoch %d, want %d", v.epoch.Number, c.epoch)
			}
			must(t, v.Close(t.Context()))
			v, _ = mustOpen(t, config(disk), Ready)
			expect(t, v, c.last)
			must(t, v.Close(t.Context()))
		})
	}
}

// After recovery of older state no sealed_key of before opens what is written later.
func TestRecoveryOfOlderStateStartsAnEpoch(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 3)
	backup := disk.Files()["d/sealed_data"]
	add(t, v, 3)
	must(t, v.Close(t.Context()))
	key := disk.Files()["d/sealed_key"]

	disk.Put("d/sealed_data", backup)
	v, boot := mustOpen(t, config(disk), Sealed)
	want := "sealed_data is older than sealed_key: it ends at record 3, sealed_key has seen record 6"
	if boot.Reason != want {
		t.Errorf("reason %q", boot.Reason)
	}
	must(t, v.Recover(t.Context(), secretA))
	expect(t, v, 3)
	add(t, v, 5)
	must(t, v.Close(t.Context()))
	disk.Put("d/sealed_key", key)
	v, boot = mustOpen(t, config(disk), Sealed)
	want = "sealed_key is older than sealed_data: it is of epoch 1, sealed_data of epoch 2; " +
		"between them the recovery keys were changed, or the state was recovered"
	if !strings.Contains(boot.Reason, want) {
		t.Errorf("reason %q", boot.Reason)
	}
	must(t, v.Recover(t.Context(), secretA))
	expect(t, v, 8)
}

// A journal that went another way after a backup was restored is told by its hash.
func TestForkIsSeen(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 3)
	backup := disk.Files()
	add(t, v, 2)
	must(t, v.Close(t.Context()))
	key := disk.Files()["d/sealed_key"]

	disk.Put("d/sealed_data", backup["d/sealed_data"])
	disk.Put("d/sealed_key", backup["d/sealed_key"])
	v, _ = mustOpen(t, config(disk), Ready) // the matching pair opens: no protection without external storage
	add(t, v, 4)
	must(t, v.Close(t.Context()))
	disk.Put("d/sealed_key", key)
	_, boot := mustOpen(t, config(disk), Sealed)
	want := "sealed_data is older than sealed_key: its record 5 is not the one that sealed_key has seen"
	if boot.Reason != want {
		t.Errorf("reason %q", boot.Reason)
	}
}

// An older sealed_key of the same epoch opens: the documented deviation from check 9.
func TestOlderKeyOfSameEpochOpens(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 3)
	key := disk.Files()["d/sealed_key"]
	add(t, v, 3)
	must(t, v.Snapshot(t.Context(), 5, state(5)))
	must(t, v.Close(t.Context()))
	disk.Put("d/sealed_key", key)
	v, _ = mustOpen(t, config(disk), Ready)
	expect(t, v, 6)
}

func TestSetSealMode(t *testing.T) {
	for _, from := range []string{"", ProductKey, UniqueKey, Disabled} {
		for _, to := range []string{"", ProductKey, UniqueKey, Disabled} {
			t.Run(from+" to "+to, func(t *testing.T) { testSetSealMode(t, from, to) })
		}
	}
}

func testSetSealMode(t *testing.T, from, to string) {
	disk := journaltest.NewDisk()
	v, _ := mustOpen(t, config(disk), Fresh)
	g := genesis(secretA)
	g.SealMode = from
	must(t, v.Create(t.Context(), g))
	add(t, v, 3)
	must(t, v.Snapshot(t.Context(), 2, state(2)))
	if err := v.SetSealMode(t.Context(), "productkey", 5, state(5), record(5)); err == nil {
		t.Error("accepted an unknown seal mode")
	}
	must(t, v.SetSealMode(t.Context(), to, 5, state(5), record(5)))
	expect(t, v, 5)
	add(t, v, 2)
	expect(t, v, 7)
	id := v.epoch.Journal.String()
	must(t, v.Close(t.Context()))

	product, unique := config(disk), config(disk)
	product.Sealers.Unique, unique.Sealers.Product = nil, nil
	opens, fails := product, unique
	switch to {
	case Disabled:
		mustOpen(t, config(disk), Fresh)
		var want []string
		if from != Disabled {
			want = []string{"sealed_data." + id + ".dropped", "sealed_key." + id + ".dropped"}
		}
		if diff := cmp.Diff(want, files(disk)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if from != Disabled {
			onlyRecoveryOpens(t, disk, id)
		}
		return
	case UniqueKey:
		opens, fails = unique, product
	}
	v, boot := mustOpen(t, fails, Sealed)
	if !strings.Contains(boot.Reason, "sealed_key does not open on this machine") {
		t.Errorf("reason %q", boot.Reason)
	}
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, opens, Ready)
	expect(t, v, 7)
}

// onlyRecoveryOpens puts files that were set aside by Disabled back.
func onlyRecoveryOpens(t *testing.T, disk *journaltest.Disk, id string) {
	t.Helper()
	again := journaltest.NewDisk()
	for name, data := range disk.Files() {
		again.Put(strings.TrimSuffix(name, "."+id+".dropped"), data)
	}
	v, boot := mustOpen(t, config(again), Sealed)
	if !strings.Contains(boot.Reason, "it has no slots") {
		t.Errorf("reason %q", boot.Reason)
	}
	must(t, v.Recover(t.Context(), secretA))
	expect(t, v, 4)
}

// A condition that is not met leaves everything as it was.
func TestRecoverIf(t *testing.T) {
	disk := journaltest.NewDisk()
	v := create(t, config(disk), 4)
	must(t, v.Snapshot(t.Context(), 2, state(2)))
	must(t, v.Close(t.Context()))
	drop(disk, "sealed_key")
	before := disk.Files()
	v, _ = mustOpen(t, config(disk), Sealed)
	refusal := errors.New("refused")
	err := v.RecoverIf(t.Context(), secretA, func(stored Replayer) error {
		var lines []string
		must(t, stored(func(s []byte) error {
			lines = strings.Split(string(s), "\n")
			return nil
		}, func(r Record) error {
			lines = append(lines, string(r.Payload))
			return nil
		}))
		if diff := cmp.Diff(strings.Split(string(state(4)), "\n"), lines); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, disk.Files()); diff != "" {
		t.Errorf("a refused recovery changed files (-before +after):\n%s", diff)
	}
	if err := v.RecoverIf(t.Context(), secretB, func(Replayer) error { return nil }); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the wrong secret: %v", err)
	}
	must(t, v.Recover(t.Context(), secretA))
	expect(t, v, 4)
}
