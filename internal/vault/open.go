// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/file"
	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

// found is what lies in the directory of a vault that is not open.
type found struct {
	reason string // why it cannot be opened
	header sealed.Header
	raw    []byte // nil: the header is unreadable
	data   bool   // there is a sealed_data
	id     string // of it, for names of files set aside
	key    bool   // there is a sealed_key
	keyID  string
	stored []seal.EpochKeys // what sealed_key has; nil: unreadable
	keyBad string           // why sealed_key is unreadable
	alien  bool             // sealed_data is MarbleRun's
}

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
		return nil, Boot{}, &Error{fmt.Errorf("creating the state directory: %w", err), "check the path and its permissions"}
	}
	v.lock, err = v.cfg.FS.LockDir(cfg.Dir)
	if errors.Is(err, journal.ErrLocked) {
		return nil, Boot{}, &Error{fmt.Errorf("locking %s: %w", cfg.Dir, err), "another Coordinator runs on it: stop it, or use another directory"}
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
	f, head, err := v.look(ctx, driver)
	if err != nil {
		return Boot{}, errors.Join(err, driver.Close())
	}
	if f.reason == "" && f.data {
		f.reason, err = v.unseal(ctx, f, head, driver)
		if err != nil {
			return Boot{}, errors.Join(fmt.Errorf("opening sealed_data: %w", err), driver.Close())
		}
	}
	v.stored = f.stored
	switch {
	case v.phase == Ready:
		v.tidy(ctx)
		return Boot{Phase: Ready}, nil
	case !f.data:
		if f.key {
			v.cfg.Log.Warn("There is a sealed_key but no sealed_data. Starting without state", "journal", f.keyID)
		}
		v.found = f
		return Boot{Phase: Fresh}, driver.Close()
	}
	v.phase, v.found = Sealed, f
	boot := Boot{Phase: Sealed, Reason: f.reason, Foreign: f.alien}
	if _, ok := f.header.RecoverySlot(); ok {
		boot.Recovery = f.header.Recovery
	}
	return boot, driver.Close()
}

// look reads both files and decides what can be decided without a key.
func (v *Vault) look(ctx context.Context, driver journal.Driver) (*found, journal.Head, error) {
	f := &found{id: "unknown"}
	if err := v.lookKey(f); err != nil {
		return nil, journal.Head{}, err
	}
	head, err := driver.Load(ctx)
	if err == nil {
		f.data = true
		if f.header, err = sealed.ParseHeader(head.Header); err == nil {
			f.raw, f.id = head.Header, f.header.Journal.String()
		}
	}
	text, damaged := sealed.Damage(err)
	switch {
	case errors.Is(err, journal.ErrNotFound):
	case damaged:
		f.data, f.reason = true, text
		if f.alien, err = v.dir.IsMarbleRun(); err != nil {
			return nil, journal.Head{}, err
		}
		if f.alien {
			f.id, f.reason = "marblerun", "sealed_data was written by MarbleRun; its state cannot be opened by this program"
		}
	case err != nil:
		return nil, journal.Head{}, fmt.Errorf("reading %s: %w", v.dir.Path(statedir.Data), err)
	}
	if f.key && f.keyID == "" {
		f.keyID = f.id
	}
	return f, head, v.guard(f)
}

func (v *Vault) lookKey(f *found) error {
	data, err := v.dir.ReadKey()
	if err != nil || data == nil {
		return err
	}
	f.key = true
	keys, err := seal.ParseKeyFile(data)
	if err != nil {
		f.keyBad = err.Error()
		return nil
	}
	f.stored = keys.Epochs
	if len(f.stored) > 0 {
		f.keyID = f.stored[0].Journal.String()
	}
	return nil
}

// guard keeps simulation and TEE apart.
func (v *Vault) guard(f *found) error {
	for _, tee := range f.tees() {
		if v.cfg.TEE == Simulation && tee != Simulation {
			return &Error{
				fmt.Errorf("the state in %s was sealed in a TEE of kind %q; a simulation must not touch it", v.cfg.Dir, tee),
				"start the Coordinator in that TEE, or use another directory for the simulation",
			}
		}
	}
	if v.cfg.TEE != Simulation && f.header.TEE == Simulation {
		f.reason = "sealed_data was written in a simulation, where nothing is protected; a TEE does not open it"
	}
	return nil
}

// tees returns the kinds of TEE that wrote the files.
func (f *found) tees() []string {
	var out []string
	if f.raw != nil {
		out = append(out, f.header.TEE)
	}
	for _, e := range f.stored {
		out = append(out, e.TEE)
	}
	return out
}

// unseal tries to open the journal with what sealed_key has. The text says why
// it must stay sealed; no text and no error: the vault is Ready.
func (v *Vault) unseal(ctx context.Context, f *found, head journal.Head, driver journal.Driver) (string, error) {
	entry, reason := f.entry()
	if reason != "" {
		return reason, nil
	}
	key, reason := v.unwrap(ctx, entry)
	if reason != "" {
		return reason, nil
	}
	e := sealed.New(f.header, f.raw, key, v.cfg.Rand)
	e.Driver = driver
	var mark *seal.Watermark
	if entry.Watermark != nil {
		w, err := seal.OpenWatermark(e.Marks, entry.Watermark, e.Journal, e.Number)
		if err != nil {
			return "sealed_key is damaged: " + err.Error(), nil
		}
		mark = &w
	}
	found, err := e.Verify(ctx, head, mark)
	if text, damaged := sealed.Damage(err); damaged {
		return text, nil
	}
	if err != nil {
		return "", err
	}
	if found.Older != "" {
		return "sealed_data is older than sealed_key: " + found.Older, nil
	}
	return "", v.settle(ctx, e, found, mark, entry.Slots)
}

// settle makes what was read durable and the vault Ready.
func (v *Vault) settle(ctx context.Context, e *sealed.Epoch, found sealed.Verdict, mark *seal.Watermark, slots []seal.Slot) error {
	durable := found.At.Snapshot
	if mark != nil {
		durable = max(durable, mark.Position)
		v.mark = mark.Position
	}
	if found.Torn > 0 {
		v.cfg.Log.Warn("Dropping the end of sealed_data: a write that was interrupted and never acknowledged",
			"bytes", found.Torn, "lastRecord", found.At.Last)
	}
	if err := e.Driver.Settle(ctx, durable); err != nil {
		return err
	}
	v.adopt(&epoch{Epoch: e, tee: slots}, found.At)
	return nil
}

// entry finds what sealed_key has about the journal, or says why it is of no use.
func (f *found) entry() (seal.EpochKeys, string) {
	if !f.key {
		return seal.EpochKeys{}, "sealed_key is missing"
	}
	if f.keyBad != "" {
		return seal.EpochKeys{}, "sealed_key is unreadable: " + f.keyBad
	}
	if i := slices.IndexFunc(f.stored, func(e seal.EpochKeys) bool {
		return e.Journal == f.header.Journal && e.Epoch == f.header.Number
	}); i >= 0 {
		return f.stored[i], ""
	}
	newest := f.newestEpoch(0)
	switch {
	case newest == 0:
		return seal.EpochKeys{}, fmt.Sprintf("sealed_key belongs to another journal (%s, not %s)", f.keyID, f.id)
	case newest > f.header.Number:
		return seal.EpochKeys{}, fmt.Sprintf("sealed_data is older than sealed_key: it is of epoch %d, sealed_key of epoch %d; "+
			"the recovery keys were changed between them", f.header.Number, newest)
	}
	return seal.EpochKeys{}, fmt.Sprintf("sealed_key is older than sealed_data: it is of epoch %d, sealed_data of epoch %d; "+
		"the recovery keys were changed between them", newest, f.header.Number)
}

// newestEpoch returns the latest epoch of the journal that sealed_key knows, at least the given one.
func (f *found) newestEpoch(least uint64) uint64 {
	for _, e := range f.stored {
		if e.Journal == f.header.Journal {
			least = max(least, e.Epoch)
		}
	}
	return least
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
