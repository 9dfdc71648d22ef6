// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

func (c *call) readSecretsV1() (any, error) { return returned(c.readSecrets()) }

func (c *call) readSecretsV2() (any, error) {
	secrets, err := c.readSecrets()
	return wire.SecretsReply{Secrets: secrets}, err
}

func (c *call) readSecrets() (map[string]wire.Secret, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	names := c.r.URL.Query()["s"]
	if len(names) == 0 {
		return nil, badRequest("invalid query: endpoint requires at least one query parameter")
	}
	if slices.Contains(names, "") {
		return nil, badRequest("malformed query string: empty query parameter")
	}
	return c.api.cfg.Coordinator.ReadSecrets(c.ctx, user, names)
}

// writeSecretsV1 rejects bytes after the JSON value.
func (c *call) writeSecretsV1() (any, error) {
	return c.writeSecrets(func(data []byte) (values map[string]wire.UserSecret, err error) {
		if err := json.Unmarshal(data, &values); err != nil {
			return nil, badRequest("bad request: %v", err)
		}
		return values, nil
	})
}

func (c *call) writeSecretsV2() (any, error) {
	return c.writeSecrets(func(data []byte) (map[string]wire.UserSecret, error) {
		req, err := decodeFirst[wire.SecretsRequest](data)
		return req.Secrets, err
	})
}

func (c *call) writeSecrets(decode func([]byte) (map[string]wire.UserSecret, error)) (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	data, err := c.body(maxSecrets)
	if err != nil {
		return nil, err
	}
	values, err := decode(data)
	if err != nil {
		return nil, err
	}
	if err := checkCertificates(values); err != nil {
		return nil, err
	}
	return nil, c.api.cfg.Coordinator.WriteSecrets(c.ctx, user, values)
}

// checkCertificates: an unparsable certificate counts as an unparsable request (client-api.md §5).
func checkCertificates(values map[string]wire.UserSecret) error {
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		der := values[name].Cert
		if len(der) == 0 {
			continue
		}
		if _, err := x509.ParseCertificate(der); err != nil {
			if bytes.HasPrefix(der, []byte("-----BEGIN")) {
				err = fmt.Errorf("it must be DER, not PEM")
			}
			problems = append(problems, fmt.Sprintf("secret %q: certificate: %v", name, err))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return badRequest("bad request: %s", strings.Join(problems, "; "))
}

// updateV1 cannot return recovery secrets. They stay readable, so nothing is lost (Q8).
func (c *call) updateV1() (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	data, err := c.body(maxManifestV1)
	if err != nil {
		return nil, err
	}
	result, err := c.api.cfg.Coordinator.Update(c.ctx, user, data)
	c.warnOfSecrets(result)
	return nil, err
}

func (c *call) warnOfSecrets(r coordinator.UpdateResult) {
	if r.RecoverySecrets == nil {
		return
	}
	c.api.cfg.Log.WarnContext(c.ctx, "The recovery keys changed, and version 1 of the client API does not transport the "+
		"new recovery secrets. Fetch them with GET /api/v2/recovery-secrets or 'marblerun manifest recovery-secrets'.")
}

func (c *call) updateV2() (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	req, err := decode[wire.ManifestRequest](c, maxManifestV2)
	if err != nil {
		return nil, err
	}
	r, err := c.api.cfg.Coordinator.Update(c.ctx, user, req.Manifest)
	return wire.UpdateApplyReply{
		MissingAcknowledgments: r.MissingAcknowledgments, MissingUsers: missing(r), RecoverySecrets: r.RecoverySecrets,
	}, err
}

// missing is null when nothing is missing.
func missing(r coordinator.UpdateResult) []string {
	if r.MissingAcknowledgments == 0 {
		return nil
	}
	return r.MissingUsers
}

func (c *call) pendingUpdate() (any, error) {
	p, err := c.api.cfg.Coordinator.PendingUpdate()
	return wire.PendingUpdate{
		Manifest: p.Manifest, Message: stillNeeded(p.MissingAcknowledgments), MissingUsers: p.MissingUsers,
	}, err
}

// updated is the message of an acknowledgement that was the last one. Its first word is part of the contract.
const updated = "All users have acknowledged the update manifest. Update successfully applied"

// stillNeeded's first word is part of the contract.
func stillNeeded(n int) string {
	if n == 1 {
		return "1 user still needs to acknowledge the update manifest"
	}
	return fmt.Sprintf("%d users still need to acknowledge the update manifest", n)
}

func (c *call) acknowledgeV1() (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	data, err := c.body(maxManifestV1)
	if err != nil {
		return nil, err
	}
	r, err := c.api.cfg.Coordinator.Acknowledge(c.ctx, user, data)
	if err != nil {
		return nil, err
	}
	c.warnOfSecrets(r)
	if r.MissingAcknowledgments == 0 {
		return updated, nil
	}
	return stillNeeded(r.MissingAcknowledgments), nil
}

func (c *call) acknowledgeV2() (any, error) {
	user, err := c.user()
	if err != nil {
		return nil, err
	}
	req, err := decode[wire.ManifestRequest](c, maxManifestV2)
	if err != nil {
		return nil, err
	}
	r, err := c.api.cfg.Coordinator.Acknowledge(c.ctx, user, req.Manifest)
	reply := wire.AcknowledgeReply{
		Message: updated, MissingUsers: missing(r), MissingAcknowledgments: r.MissingAcknowledgments,
		RecoverySecrets: r.RecoverySecrets,
	}
	if r.MissingAcknowledgments > 0 {
		reply.Message = stillNeeded(r.MissingAcknowledgments) + ".\nThe following users have not yet accepted: " +
			strings.Join(r.MissingUsers, ", ")
	}
	return reply, err
}

// cancelled is part of the contract.
const cancelled = "Update successfully cancelled"

func (c *call) cancelV1() (any, error) { return cancelled, c.cancel() }

func (c *call) cancelV2() (any, error) { return wire.MessageReply{Message: cancelled}, c.cancel() }

func (c *call) cancel() error {
	user, err := c.user()
	if err != nil {
		return err
	}
	return c.api.cfg.Coordinator.CancelUpdate(c.ctx, user)
}
