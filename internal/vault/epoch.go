// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"slices"

	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
)

// epoch is the open journal, with the slots that sealed_key has for it.
type epoch struct {
	*sealed.Epoch
	tee []seal.Slot
}

// newEpoch returns the epoch of a new header. Its driver is set when it is installed.
func (v *Vault) newEpoch(ctx context.Context, h sealed.Header, key seal.Key, have []seal.Slot) (*epoch, error) {
	mode, err := sealed.Mode(h.SealMode)
	if err != nil {
		return nil, err
	}
	h.TEE, h.SealMode = v.cfg.TEE, mode
	raw, err := h.Encode()
	if err != nil {
		return nil, err
	}
	e := sealed.New(h, raw, key, v.cfg.Rand)
	tee, err := v.teeSlots(ctx, e, have)
	return &epoch{Epoch: e, tee: tee}, err
}

// recoverySlots wraps the key with R; no R, no slot.
func (v *Vault) recoverySlots(secret []byte, key seal.Key, id seal.ID, number uint64) ([]seal.Slot, error) {
	if secret == nil {
		return []seal.Slot{}, nil
	}
	slot, err := seal.WrapRecovery(v.cfg.Rand, secret, key, id, number)
	return []seal.Slot{slot}, err
}

// teeSlots returns the slots that sealed_key must have for the epoch's seal
// mode. Those that it has already, and kinds unknown to this program, are kept;
// without a sealer for the mode all are.
func (v *Vault) teeSlots(ctx context.Context, e *sealed.Epoch, have []seal.Slot) ([]seal.Slot, error) {
	out := slices.DeleteFunc(slices.Clone(have), func(s seal.Slot) bool { return s.Kind.Known() })
	kind := map[string]seal.Kind{sealed.ProductKey: seal.Product, sealed.UniqueKey: seal.Unique}[e.SealMode]
	if kind == "" {
		return nil, nil
	}
	if i := slices.IndexFunc(have, func(s seal.Slot) bool { return s.Kind == kind }); i >= 0 {
		return append(out, have[i]), nil
	}
	sealer := v.cfg.Sealers.For(kind)
	if sealer == nil {
		v.cfg.Log.Warn("This TEE has no sealing key for the manifest's seal mode. The next start will need recovery",
			"sealMode", e.SealMode, "tee", v.cfg.TEE)
		return have, nil
	}
	slot, err := seal.Wrap(ctx, sealer, kind, e.Key, e.Journal, e.Number)
	if err != nil {
		return nil, err
	}
	return append(out, slot), nil
}
