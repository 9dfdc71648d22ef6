// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"

	"github.com/marblerun/marblerun/api/wire"
)

// SecretRotate gives shared secrets that the Coordinator generated new values, all or none, and returns their names,
// sorted. Marbles get the new values when they start, and the ones before as .Previous.Secrets. The client's user needs
// RotateSecret on each. Not offered by MarbleRun.
func (c *Client) SecretRotate(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, errors.New("no secret named")
	}
	r, err := post[wire.RotateSecretsReply](ctx, c, v2+"/secrets/rotate", wire.RotateSecretsRequest{Secrets: names})
	return r.Secrets, err
}

// BanTarget is what a ban is about: a Marble type, and either a UUID or the SHA-256 of evidence.
type BanTarget = wire.BanTarget

// Ban is a ban, by whom and when.
type Ban = wire.Ban

// BanAdd bans a Marble from activation and returns the ban in force, which may be older. Certificates and secrets
// that the Marble already has are not revoked: rotate the CA (by an update) and the secrets for that. The client's user
// needs BanMarble on the type. Not offered by MarbleRun.
func (c *Client) BanAdd(ctx context.Context, target BanTarget) (Ban, error) {
	return post[Ban](ctx, c, v2+"/bans", wire.BanRequest{BanTarget: target})
}

// BanLift ends a ban and returns it. It is an error if there is none.
func (c *Client) BanLift(ctx context.Context, target BanTarget) (Ban, error) {
	return post[Ban](ctx, c, v2+"/bans", wire.BanRequest{BanTarget: target, Lift: true})
}

// BanList returns all bans in force, for anyone.
func (c *Client) BanList(ctx context.Context) ([]Ban, error) {
	r, err := get[wire.BansReply](ctx, c, v2+"/bans", nil)
	return r.Bans, err
}
