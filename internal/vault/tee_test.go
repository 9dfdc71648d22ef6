// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
	"github.com/marblerun/marblerun/internal/seal"
)

func TestTEEAndSimulationStayApart(t *testing.T) {
	tee := func(disk *journaltest.Disk, kind string) Config {
		cfg := config(disk)
		cfg.TEE = kind
		cfg.Sealers = seal.Sealers{Product: renamed{cfg.Sealers.Product}, Unique: renamed{cfg.Sealers.Unique}}
		return cfg
	}
	t.Run("simulation on state of a TEE", func(t *testing.T) {
		disk := journaltest.NewDisk()
		must(t, create(t, tee(disk, "sgx"), 2).Close(t.Context()))
		for _, name := range []string{"", "sealed_key", "sealed_data"} {
			before := disk.Files()
			if name != "" {
				drop(disk, name)
			}
			_, _, err := Open(t.Context(), config(disk))
			var advice *Error
			if !errors.As(err, &advice) || !strings.Contains(err.Error(), `sealed in a TEE of kind "sgx"`) {
				t.Errorf("without %q: %v", name, err)
			}
			for name, data := range before {
				disk.Put(name, data)
			}
		}
		v, _ := mustOpen(t, tee(disk, "sgx"), Ready)
		expect(t, v, 2)
	})
	t.Run("TEE on state of a simulation", func(t *testing.T) {
		disk := journaltest.NewDisk()
		must(t, create(t, config(disk), 2).Close(t.Context()))
		v, boot := mustOpen(t, tee(disk, "sgx"), Sealed)
		if !strings.Contains(boot.Reason, "written in a simulation") {
			t.Errorf("reason %q", boot.Reason)
		}
		if err := v.Recover(t.Context(), secretA); !errors.Is(err, ErrNoRecovery) {
			t.Errorf("recovered: %v", err)
		}
		must(t, v.Create(t.Context(), genesis(secretB)))
		expect(t, v, 1)
	})
	t.Run("another TEE", func(t *testing.T) {
		disk := journaltest.NewDisk()
		must(t, create(t, tee(disk, "sgx"), 2).Close(t.Context()))
		drop(disk, "sealed_key")
		v, _ := mustOpen(t, tee(disk, "snp"), Sealed)
		must(t, v.Recover(t.Context(), secretA))
		must(t, v.Close(t.Context()))
		v, _ = mustOpen(t, tee(disk, "snp"), Ready)
		expect(t, v, 2)
		if v.epoch.TEE != "snp" || v.epoch.Number != 2 {
			t.Errorf("epoch %d of %s", v.epoch.Number, v.epoch.TEE)
		}
	})
	t.Run("simulation sealer in a TEE", func(t *testing.T) {
		cfg := config(journaltest.NewDisk())
		cfg.TEE = "sgx"
		if _, _, err := Open(t.Context(), cfg); err == nil {
			t.Error("accepted")
		}
	})
}

// renamed is the simulation's sealer, standing in for a real one.
type renamed struct{ seal.Sealer }

func (r renamed) Name() string { return strings.TrimPrefix(r.Sealer.Name(), seal.SimulationPrefix) }

func TestNoSealer(t *testing.T) {
	disk := journaltest.NewDisk()
	cfg := config(disk)
	cfg.Sealers = seal.Sealers{}
	must(t, create(t, cfg, 2).Close(t.Context()))
	v, boot := mustOpen(t, cfg, Sealed)
	if !strings.Contains(boot.Reason, "it has no slots") {
		t.Errorf("reason %q", boot.Reason)
	}
	if err := v.SaveShares(t.Context(), []byte("x")); !errors.Is(err, ErrNoSealer) {
		t.Errorf("shares: %v", err)
	}
	must(t, v.Recover(t.Context(), secretA))
	expect(t, v, 2)
}

func TestShares(t *testing.T) {
	disk := journaltest.NewDisk()
	must(t, create(t, config(disk), 2).Close(t.Context()))
	drop(disk, "sealed_key")
	v, _ := mustOpen(t, config(disk), Sealed)
	if got, err := v.LoadShares(t.Context()); got != nil || err != nil {
		t.Errorf("no shares: %q, %v", got, err)
	}
	must(t, v.SaveShares(t.Context(), []byte("share 1")))
	must(t, v.SaveShares(t.Context(), []byte("share 1, share 2")))
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, config(disk), Sealed)
	if got, err := v.LoadShares(t.Context()); string(got) != "share 1, share 2" || err != nil {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	kept := disk.Files()["d/sealed_shares"]
	if bytes.Contains(kept, []byte("share 1")) {
		t.Error("shares lie in clear")
	}
	must(t, v.Recover(t.Context(), secretA))
	must(t, v.Close(t.Context()))
	if slices.Contains(files(disk), "sealed_shares") {
		t.Error("shares survive recovery")
	}

	// Shares for one state do not count for another.
	must(t, func() error { v, _ := mustOpen(t, config(disk), Ready); return v.Close(t.Context()) }())
	drop(disk, "sealed_key")
	disk.Put("d/sealed_shares", kept)
	v, _ = mustOpen(t, config(disk), Sealed)
	must(t, v.Create(t.Context(), genesis(secretA)))
	must(t, v.Close(t.Context()))
	drop(disk, "sealed_key")
	disk.Put("d/sealed_shares", kept)
	v, _ = mustOpen(t, config(disk), Sealed)
	if got, err := v.LoadShares(t.Context()); got != nil || !errors.Is(err, ErrWrongKey) {
		t.Errorf("of another state: %q, %v", got, err)
	}
}
