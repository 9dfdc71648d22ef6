// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/file"
	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

// Open locks the directory, looks at what is in it, and opens it if this
// machine can. An error means that the process must not go on: the storage
// fails, another process has the directory, or a simulation was started on
// state that belongs to a TEE.
func Open(ctx context.Context, cfg Config) (*Vault, Boot, error) {
	v, err := newVault(cfg)
	if err != nil {
		return nil, Boot{}, err
	}
	if err := v.cfg.FS.MkdirAll(cfg.Dir); err != nil {
		err = fmt.Errorf("creating the state directory: %w", err)
		return nil, Boot{}, &Error{err, "check the path and its permissions"}
	}
	v.lock, err = v.cfg.FS.LockDir(cfg.Dir)
	if errors.Is(err, journal.ErrLocked) {
		err = fmt.Errorf("locking %s: %w", cfg.Dir, err)
		return nil, Boot{}, &Error{err, "another Coordinator runs on it: stop it, or use another directory"}
	}
	if err != nil {
		return nil, Boot{}, fmt.Errorf("locking %s: %w", cfg.Dir, err)
	}
	boot, err := v.start(ctx)
	if err != nil {
		return nil, Boot{}, errors.Join(err, v.lock.Close())
	}
	return v, boot, nil
}

func (v *Vault) start(ctx context.Context) (Boot, error) {
	if err := v.dir.RemoveTemporaries(); err != nil {
		return Boot{}, err
	}
	driver := file.New(v.cfg.FS, v.dir.Path(statedir.Data))
	f, head, err := v.dir.Look(ctx, driver)
	if err == nil {
		err = v.guard(f)
	}
	if err != nil {
		return Boot{}, errors.Join(err, driver.Close())
	}
	if f.Reason == "" && f.Data {
		f.Reason, err = v.unseal(ctx, f, head, driver)
		if err != nil {
			return Boot{}, errors.Join(fmt.Errorf("opening sealed_data: %w", err), driver.Close())
		}
	}
	v.stored = f.Stored
	switch {
	case v.phase == Ready:
		v.tidy(ctx)
		return Boot{Phase: Ready}, nil
	case !f.Data:
		if f.Key {
			v.cfg.Log.Warn("There is a sealed_key but no sealed_data. Starting without state", "journal", f.KeyID)
		}
		v.found = f
		return Boot{Phase: Fresh}, driver.Close()
	}
	v.phase, v.found = Sealed, f
	boot := Boot{Phase: Sealed, Reason: f.Reason, Foreign: f.Alien}
	if _, ok := f.Header.RecoverySlot(); ok {
		boot.Recovery = f.Header.Recovery
	}
	return boot, driver.Close()
}

// guard keeps simulation and TEE apart.
func (v *Vault) guard(f *statedir.Found) error {
	for _, tee := range f.TEEs() {
		if v.cfg.TEE == Simulation && tee != Simulation {
			return &Error{
				fmt.Errorf("the state in %s was sealed in a TEE of kind %q; a simulation must not touch it",
					v.cfg.Dir, tee),
				"start the Coordinator in that TEE, or use another directory for the simulation",
			}
		}
	}
	if v.cfg.TEE != Simulation && f.Header.TEE == Simulation {
		f.Reason = "sealed_data was written in a simulation, where nothing is protected; a TEE does not open it"
	}
	return nil
}

// unseal tries to open the journal with what sealed_key has. The text says why
// it must stay sealed; no text and no error: the vault is Ready.
func (v *Vault) unseal(
	ctx context.Context, f *statedir.Found, head journal.Head, driver journal.Driver,
) (string, error) {
	entry, reason := f.Entry()
	if reason != "" {
		return reason, nil
	}
	key, reason := v.unwrap(ctx, entry)
	if reason != "" {
		return reason, nil
	}
	e := sealed.New(f.Header, f.Raw, key, v.cfg.Rand)
	e.Driver = driver
	var mark *seal.Watermark
	if entry.Watermark != nil {
		w, err := seal.OpenWatermark(e.Marks, entry.Watermark, e.Journal, e.Number)
		if err != nil {
			return "sealed_key is damaged: " + err.Error(), nil
		}
		mark = &w
	}
	checked, err := e.Verify(ctx, head, mark)
	if text, damaged := sealed.Damage(err); damaged {
		return text, nil
	}
	if err != nil {
		return "", err
	}
	if checked.Older != "" {
		return "sealed_data is older than sealed_key: " + checked.Older, nil
	}
	return "", v.settle(ctx, e, checked, mark, entry.Slots)
}

// settle makes what was read durable and the vault Ready.
func (v *Vault) settle(
	ctx context.Context, e *sealed.Epoch, checked sealed.Verdict, mark *seal.Watermark, slots []seal.Slot,
) error {
	durable := checked.At.Snapshot
	if mark != nil {
		durable = max(durable, mark.Position)
		v.mark = mark.Position
	}
	if checked.Torn > 0 {
		v.cfg.Log.Warn("Dropping the end of sealed_data: a write that was interrupted and never acknowledged",
			"bytes", checked.Torn, "lastRecord", checked.At.Last)
	}
	if err := e.Driver.Settle(ctx, durable); err != nil {
		return err
	}
	v.adopt(&epoch{Epoch: e, tee: slots}, checked.At)
	return nil
}

// unwrap tries every slot that this process has a sealer for.
func (v *Vault) unwrap(ctx context.Context, entry seal.EpochKeys) (seal.Key, string) {
	var problems []string
	for _, slot := range entry.Slots {
		sealer := v.cfg.Sealers.For(slot.Kind)
		if sealer == nil {
			problems = append(problems, fmt.Sprintf("no sealer for the %s slot of %q", slot.Kind, slot.Sealer))
			continue
		}
		key, err := seal.Unwrap(ctx, sealer, slot, entry.Journal, entry.Epoch)
		if err == nil {
			return key, ""
		}
		problems = append(problems, err.Error())
	}
	if problems == nil {
		problems = []string{"it has no slots"}
	}
	return seal.Key{}, "sealed_key does not open on this machine: " + strings.Join(problems, "; ")
}
