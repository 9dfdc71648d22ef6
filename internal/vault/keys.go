// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/marblerun/marblerun/internal/seal"
)

// writeKeys replaces sealed_key; the caller holds v.keys.
func (v *Vault) writeKeys(entries []seal.EpochKeys) error {
	if err := v.dir.WriteKey(entries); err != nil {
		return err
	}
	v.stored = entries
	return nil
}

// entry is what sealed_key must have about an epoch. mark is nil before the epoch's journal is in place.
func (e *epoch) entry(mark *seal.Watermark) (seal.EpochKeys, error) {
	out := seal.EpochKeys{Journal: e.Journal, Epoch: e.Number, TEE: e.TEE, Slots: e.tee}
	if mark == nil {
		return out, nil
	}
	var err error
	out.Watermark, err = seal.SealWatermark(e.Marks, *mark, e.Journal, e.Number)
	return out, err
}

// withEntry returns the stored entries and a new one. If they have its epoch
// already (a change of seal mode), both sets of slots are kept.
func withEntry(stored []seal.EpochKeys, add seal.EpochKeys) []seal.EpochKeys {
	out := slices.Clone(stored)
	for i, e := range out {
		if e.Journal != add.Journal || e.Epoch != add.Epoch {
			continue
		}
		out[i].Slots = slices.Clone(e.Slots)
		for _, s := range add.Slots {
			if !slices.ContainsFunc(e.Slots, func(have seal.Slot) bool { return have.Kind == s.Kind }) {
				out[i].Slots = append(out[i].Slots, s)
			}
		}
		return out
	}
	return append(out, add)
}

// writeMark rewrites sealed_key for the current epoch alone, with a watermark
// at the last durable record; the caller holds v.keys.
func (v *Vault) writeMark() error {
	v.mu.Lock()
	e, at := v.epoch, v.at
	v.mu.Unlock()
	if !e.Persistent() {
		return nil
	}
	entry, err := e.entry(&seal.Watermark{Position: at.Last, Chain: at.Chain})
	if err != nil {
		return err
	}
	if err := v.writeKeys([]seal.EpochKeys{entry}); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mark, v.marked = at.Last, v.cfg.Now()
	return nil
}

// due arms the timer for the next watermark: at once if the last one is long
// ago, else when the interval is over.
func (v *Vault) due() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer != nil || v.closed || v.epoch == nil || !v.epoch.Persistent() {
		return
	}
	wait := min(v.interval, max(0, v.interval-v.cfg.Now().Sub(v.marked)))
	v.timer = time.AfterFunc(wait, v.tick)
}

// tick writes the watermark that is due. A failure costs protection against
// an old copy, not data: it is logged, and the next append arms the timer again.
func (v *Vault) tick() {
	v.keys.Lock()
	defer v.keys.Unlock()
	v.mu.Lock()
	v.timer = nil
	stop := v.closed || v.broken != nil
	v.marked = v.cfg.Now()
	v.mu.Unlock()
	if stop {
		return
	}
	v.warn(v.writeMark(), "Writing the watermark to sealed_key failed")
}

func (v *Vault) warn(err error, what string) {
	if err != nil {
		v.cfg.Log.Warn(what, "error", err)
	}
}

// tidy brings sealed_key up to date after the journal was opened with it: the
// slots of the seal mode, one epoch, the watermark at the end.
func (v *Vault) tidy(ctx context.Context) {
	v.keys.Lock()
	defer v.keys.Unlock()
	slots, err := v.teeSlots(ctx, v.epoch.Epoch, v.epoch.tee)
	if err != nil {
		v.warn(err, "Sealing the data key again failed. Keeping sealed_key as it is")
		return
	}
	same := reflect.DeepEqual(slots, v.epoch.tee)
	v.epoch.tee = slots
	if same && len(v.stored) == 1 && v.mark == v.at.Last {
		return
	}
	v.warn(v.writeMark(), "Updating sealed_key failed")
}
