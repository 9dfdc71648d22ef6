// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package fakecoordinator

import (
	"encoding/json"
	"slices"

	"github.com/marblerun/marblerun/api/wire"
)

func (c *Coordinator) secretRotate(q *request) (any, *refusal) {
	var request wire.RotateSecretsRequest
	if err := json.Unmarshal(q.body, &request); err != nil {
		return nil, q.fail(400, "bad request: "+err.Error())
	}
	for _, name := range request.Secrets {
		if s := c.secrets[name]; !s.Shared || s.UserDefined {
			return nil, q.errorReply(0, 500, "user "+q.user+" is not allowed to rotate secret "+name)
		}
	}
	for _, name := range request.Secrets {
		s := c.secrets[name]
		s.Private = []byte("rotated")
		c.secrets[name] = s
	}
	return wire.RotateSecretsReply{Secrets: slices.Sorted(slices.Values(request.Secrets))}, nil
}

func (c *Coordinator) listBans(*request) (any, *refusal) {
	return wire.BansReply{Bans: append([]wire.Ban{}, c.bans...)}, nil
}

func (c *Coordinator) changeBan(q *request) (any, *refusal) {
	var request wire.BanRequest
	if err := json.Unmarshal(q.body, &request); err != nil {
		return nil, q.fail(400, "bad request: "+err.Error())
	}
	i := slices.IndexFunc(c.bans, func(b wire.Ban) bool { return b.BanTarget == request.BanTarget })
	switch {
	case request.Lift && i < 0:
		return nil, q.errorReply(0, 500, "there is no ban of UUID "+request.UUID)
	case request.Lift:
		b := c.bans[i]
		c.bans = slices.Delete(c.bans, i, i+1)
		return b, nil
	case i < 0:
		i = len(c.bans)
		c.bans = append(c.bans, wire.Ban{BanTarget: request.BanTarget, BannedBy: q.user, Time: "2026-01-02T03:04:05Z"})
	}
	return c.bans[i], nil
}
