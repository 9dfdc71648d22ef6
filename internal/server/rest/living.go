// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/json"
	"io"

	"github.com/marblerun/marblerun/api/wire"
)

// rotateSecrets is additive.
func (c *call) rotateSecrets() (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	req, err := decode[wire.RotateSecretsRequest](c, maxSecrets)
	if err != nil {
		return nil, err
	}
	rotated, err := c.api.cfg.Coordinator.RotateSecrets(c.ctx, user, req.Secrets)
	return wire.RotateSecretsReply{Secrets: rotated}, err
}

// changeBan is additive: it bans a Marble, or lifts a ban.
func (c *call) changeBan() (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	req, err := decode[wire.BanRequest](c, maxSmall)
	if err != nil {
		return nil, err
	}
	return returned(c.api.cfg.Coordinator.ChangeBan(c.ctx, user, req))
}

// bans is additive. It streams the list, which may be long, to anyone.
func (c *call) bans() (any, error) {
	if err := c.enter(c.api.gates.history); err != nil {
		return nil, err
	}
	return stream(func(w io.Writer) error {
		if _, err := io.WriteString(w, `{"bans":[`); err != nil {
			return err
		}
		separator := ""
		if err := c.api.cfg.Coordinator.Bans(c.ctx, func(b wire.Ban) error {
			entry, err := json.Marshal(b)
			if err == nil {
				_, err = w.Write(append([]byte(separator), entry...))
			}
			separator = ","
			return err
		}); err != nil {
			return err
		}
		_, err := io.WriteString(w, `]}`)
		return err
	}), nil
}
