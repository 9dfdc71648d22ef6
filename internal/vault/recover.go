// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"context"
	"errors"

	"github.com/marblerun/marblerun/internal/journal/file"
	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

// recover does the work of Recover; the caller holds v.swap and v.writing.
func (v *Vault) recover(ctx context.Context, f *statedir.Found, secret []byte, accept func(Replayer) error) error {
	slot, _ := f.Header.RecoverySlot()
	key, err := seal.UnwrapRecovery(secret, slot, f.Header.Journal, f.Header.Number)
	if err != nil {
		return err
	}
	e := sealed.New(f.Header, f.Raw, key, v.cfg.Rand)
	e.Driver = file.New(v.cfg.FS, v.dir.Path(statedir.Data))
	state, mark, err := v.reread(ctx, f, e)
	if err != nil {
		return errors.Join(err, e.Driver.Close())
	}
	if err := v.accepted(ctx, e, state, accept); err != nil {
		return errors.Join(err, e.Driver.Close())
	}
	if state.Older != "" || f.NewestEpoch(0) > e.Number || e.TEE != v.cfg.TEE {
		v.cfg.Log.Warn("Continuing recovered state in a new epoch", "reason", f.Reason, "lastRecord", state.At.Last)
		return errors.Join(v.continueAnew(ctx, f, e, state, secret), e.Driver.Close())
	}
	if err := v.reseal(ctx, f, e, state, mark); err != nil {
		return errors.Join(err, e.Driver.Close())
	}
	return nil
}

// accepted asks whether the journal that was opened may be recovered.
func (v *Vault) accepted(
	ctx context.Context, e *sealed.Epoch, state sealed.Verdict, accept func(Replayer) error,
) error {
	r, err := e.Driver.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	return accept(func(snapshot func([]byte) error, record func(Record) error) error {
		return replay(ctx, e, state.At, r, snapshot, record)
	})
}

// reread checks the journal as it lies there now, against the watermark if sealed_key has one for its epoch.
func (v *Vault) reread(
	ctx context.Context, f *statedir.Found, e *sealed.Epoch,
) (sealed.Verdict, *seal.Watermark, error) {
	head, err := e.Driver.Load(ctx)
	if err != nil {
		return sealed.Verdict{}, nil, err
	}
	if !bytes.Equal(head.Header, f.Raw) {
		err := &Error{errors.New("sealed_data was replaced since the start"), "restart the Coordinator"}
		return sealed.Verdict{}, nil, err
	}
	var mark *seal.Watermark
	if entry, reason := f.Entry(); reason == "" && entry.Watermark != nil {
		// A watermark that does not open tells nothing: sealed_key is the host's to write.
		if w, err := seal.OpenWatermark(e.Marks, entry.Watermark, e.Journal, e.Number); err == nil {
			mark = &w
		}
	}
	out, err := e.Verify(ctx, head, mark)
	return out, mark, err
}

// reseal keeps the epoch and writes a sealed_key for this machine.
func (v *Vault) reseal(
	ctx context.Context, f *statedir.Found, e *sealed.Epoch, state sealed.Verdict, mark *seal.Watermark,
) error {
	slots, err := v.teeSlots(ctx, e, nil)
	if err != nil {
		return err
	}
	if err := e.Driver.Settle(ctx, durable(state, mark)); err != nil {
		return err
	}
	v.keys.Lock()
	defer v.keys.Unlock()
	if err := v.keepStrangeKey(f); err != nil {
		return err
	}
	open := &epoch{Epoch: e, tee: slots}
	entry, err := open.entry(&seal.Watermark{Position: state.At.Last, Chain: state.At.Chain})
	if err != nil {
		return err
	}
	if err := v.writeKeys([]seal.EpochKeys{entry}); err != nil {
		return err
	}
	v.mu.Lock()
	v.mark = state.At.Last
	v.mu.Unlock()
	v.adopt(open, state.At)
	return nil
}

func durable(state sealed.Verdict, mark *seal.Watermark) uint64 {
	if mark == nil {
		return state.At.Snapshot
	}
	return max(state.At.Snapshot, mark.Position)
}

// continueAnew starts a new epoch with what was recovered and the same R. Its
// number is beyond every epoch that sealed_key has seen of this journal.
func (v *Vault) continueAnew(
	ctx context.Context, f *statedir.Found, e *sealed.Epoch, state sealed.Verdict, secret []byte,
) error {
	number := f.NewestEpoch(e.Number) + 1
	h := sealed.Header{Journal: e.Journal, Number: number, SealMode: e.SealMode, Recovery: e.Recovery}
	next, err := v.freshKey(ctx, h, secret)
	if err != nil {
		return err
	}
	r, err := e.Driver.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	v.keys.Lock()
	err = v.keepStrangeKey(f)
	v.keys.Unlock()
	if err != nil {
		return err
	}
	at := state.At
	return v.install(ctx, plan{
		next: next, image: next.Image(at.Snapshot, at.First, at.Anchor, state.State),
		bodies: e.Carry(ctx, r, next.Epoch, nil),
	})
}

// keepStrangeKey sets aside a copy of a sealed_key that is about to be replaced and does not belong to this journal.
func (v *Vault) keepStrangeKey(f *statedir.Found) error {
	if !f.StrangeKey() {
		return nil
	}
	v.stored = nil
	return v.dir.CopyAside(statedir.Key, f.KeyID)
}
