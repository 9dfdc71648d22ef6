// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/vault"
)

// Activations returns up to limit activations whose position is greater than after, oldest first.
func (c *Coordinator) Activations(ctx context.Context, after uint64, limit int) (wire.ActivationsReply, error) {
	k, err := c.running()
	if err != nil {
		return wire.ActivationsReply{}, err
	}
	s := k.state.Load()
	page := wire.ActivationsReply{Activations: []wire.Activation{}}
	err = k.vault.History(ctx, after, func(r vault.Record) (bool, error) {
		rec, err := decodeRecord(r.Payload)
		if err != nil || r.Position > s.position {
			return false, err
		}
		for _, e := range rec.Events {
			a, ok := e.(*marbleActivated)
			if !ok {
				continue
			}
			if len(page.Activations) == limit {
				page.Next = page.Activations[limit-1].Position
				return false, nil
			}
			page.Activations = append(page.Activations, activationEntry(r.Position, rec, a))
		}
		return true, nil
	})
	if err != nil {
		return wire.ActivationsReply{}, refuse(Internal, "reading activations: %w", err)
	}
	page.Collapsed, err = c.collapsedActivations(ctx, k, s)
	return page, err
}

func activationEntry(position uint64, rec *record, a *marbleActivated) wire.Activation {
	return wire.Activation{
		Position: position, Time: rec.Time.Format(time.RFC3339Nano), MarbleType: a.Type, UUID: a.UUID,
		Package: a.Package, EvidenceSHA256: a.EvidenceSHA256, Claims: a.Claims, Collateral: a.Collateral,
	}
}

// collapsedActivations counts activations whose records were pruned: the first retained one carries its number.
func (c *Coordinator) collapsedActivations(ctx context.Context, k *kernel, s *State) (uint64, error) {
	if k.vault.HistoryStart() <= 1 {
		return 0, nil
	}
	collapsed := s.activationCount
	err := k.vault.History(ctx, 0, func(r vault.Record) (bool, error) {
		rec, err := decodeRecord(r.Payload)
		if err != nil {
			return false, err
		}
		for _, e := range rec.Events {
			if a, ok := e.(*marbleActivated); ok {
				collapsed = a.Number - 1
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, refuse(Internal, "reading activations: %w", err)
	}
	return collapsed, nil
}
