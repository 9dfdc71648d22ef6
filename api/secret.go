// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"github.com/marblerun/marblerun/api/wire"
)

// Secret is a secret's value. Cert and Public are DER (PKIX); Private is PKCS #8 DER for certificates, or the value
// itself.
type Secret = wire.Secret

// UserSecret is a value for a user-defined secret: Key for symmetric-key and plain, Cert (DER) and optionally Private
// (PKCS #8 DER) for certificates.
type UserSecret = wire.UserSecret

// SecretGet returns the named secrets. The client's user needs ReadSecret on each.
func (c *Client) SecretGet(ctx context.Context, names []string) (map[string]Secret, error) {
	if len(names) == 0 {
		return nil, errors.New("no secret named")
	}
	query := url.Values{"s": names}
	return either(
		func() (map[string]Secret, error) {
			r, err := get[wire.SecretsReply](ctx, c, v2+"/secrets", query)
			return r.Secrets, err
		},
		func() (map[string]Secret, error) { return get[map[string]Secret](ctx, c, "/secrets", query) })
}

// SecretSet stores values, all or none. The client's user needs WriteSecret on each.
func (c *Client) SecretSet(ctx context.Context, secrets map[string]UserSecret) error {
	_, err := either(
		func() (json.RawMessage, error) {
			return post[json.RawMessage](ctx, c, v2+"/secrets", wire.SecretsRequest{Secrets: secrets})
		},
		func() (json.RawMessage, error) { return post[json.RawMessage](ctx, c, "/secrets", secrets) })
	return err
}
