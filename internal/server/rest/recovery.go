// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"fmt"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

// recoverV1 is gone; its status is the route's.
func (c *call) recoverV1() (any, error) {
	return nil, refuse(coordinator.Invalid, "Recovering the Coordinator using the /recover API endpoint has been disabled. Use "+
		"the /api/v2/recover endpoint instead.")
}

// recover cuts the body at maxRecover, as the contract has it (client-api.md §1).
func (c *call) recover() (any, error) {
	data, err := c.read(maxRecover)
	if err != nil {
		return nil, err
	}
	req, err := decodeFirst[wire.RecoverRequest](data)
	if err != nil {
		return nil, err
	}
	if err := c.enter(c.api.gates.recover); err != nil {
		return nil, err
	}
	remaining, err := c.api.cfg.Coordinator.Recover(c.ctx, req.RecoverySecret, req.RecoverySecretSignature)
	message := "Recovery successful."
	if remaining > 0 {
		message = fmt.Sprintf("Secret was processed successfully. Upload the next secret. Remaining secrets: %d", remaining)
	}
	return wire.RecoverReply{Remaining: remaining, Message: message}, err
}

func (c *call) recoveryPublicKey() (any, error) {
	if err := c.enter(c.api.gates.recover); err != nil {
		return nil, err
	}
	der, err := c.api.cfg.Coordinator.RecoveryPublicKey(c.ctx)
	return wire.RecoveryPublicKey{Algorithm: "RSA", EphemeralPublicKey: der}, err
}
