// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package fakecoordinator

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
)

// manifest reads a manifest out of a request: raw, or base64 in JSON.
func (q *request) manifest() ([]byte, *refusal) {
	if !q.v2 {
		return q.body, nil
	}
	var m wire.ManifestRequest
	if err := json.Unmarshal(q.body, &m); err != nil {
		return nil, q.fail(400, "bad request: "+err.Error())
	}
	return m.Manifest, nil
}

func (c *Coordinator) manifestGet(q *request) (any, *refusal) {
	if c.manifest == nil {
		if q.v2 {
			return nil, q.errorReply(0, 500, "requested value not set")
		}
		return wire.ManifestV1{}, nil
	}
	sum := sha256.Sum256(c.manifest)
	signature, _ := ecdsa.SignASN1(rand.Reader, c.rootKey, sum[:]) // fails with a bad key only
	if q.v2 {
		return wire.ManifestV2{
			ManifestSignatureRootECDSA: signature, ManifestFingerprint: hex.EncodeToString(sum[:]), Manifest: c.manifest,
		}, nil
	}
	return wire.ManifestV1{
		ManifestSignatureRootECDSA: signature, ManifestSignature: hex.EncodeToString(sum[:]), Manifest: c.manifest,
	}, nil
}

func (c *Coordinator) manifestSet(q *request) (any, *refusal) {
	m, refused := q.manifest()
	if refused != nil {
		return nil, refused
	}
	if c.code == 3 {
		return nil, q.errorReply(400, 500, notInState)
	}
	c.setManifest(m)
	secrets := c.recoveryData()
	if !q.v2 && len(secrets) == 0 {
		return nil, nil
	}
	return wire.ManifestSetReply{RecoverySecrets: secrets}, nil
}

// recoveryData has one entry for each of the manifest's recovery keys.
func (c *Coordinator) recoveryData() map[string][]byte {
	var m struct{ RecoveryKeys map[string]string }
	_ = json.Unmarshal(c.manifest, &m) // what is no manifest has no keys
	secrets := map[string][]byte{}
	for name := range m.RecoveryKeys {
		secrets[name] = []byte("secret of " + name)
	}
	return secrets
}

func (c *Coordinator) recoverySecrets(q *request) (any, *refusal) {
	if c.code != 3 {
		return nil, q.errorReply(0, 500, notInState)
	}
	return wire.RecoverySecretsReply{RecoverySecrets: c.recoveryData()}, nil
}

// activations are five, two a page whatever the limit.
func (c *Coordinator) activations(q *request) (any, *refusal) {
	after, err := strconv.ParseUint(q.URL.Query().Get("after"), 10, 64)
	if err != nil {
		return nil, q.fail(400, "invalid query: after")
	}
	page := wire.ActivationsReply{Collapsed: 7}
	for p := after + 1; p <= 5 && len(page.Activations) < 2; p++ {
		page.Activations = append(page.Activations, wire.Activation{
			Position: p, Time: fmt.Sprintf("2026-01-02T03:04:0%dZ", p), MarbleType: "web", Package: "app",
			UUID:   fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", p),
			Claims: json.RawMessage(`{"tcbStatus":"UpToDate"}`),
		})
		if page.Next = p; p == 5 {
			page.Next = 0
		}
	}
	return page, nil
}

func (c *Coordinator) updateLog(q *request) (any, *refusal) {
	switch {
	case c.code != 3:
		return nil, q.errorReply(500, 500, notInState)
	case q.v2:
		return wire.UpdateLog{UpdateLog: c.log}, nil
	}
	return strings.Join(c.log, "\n") + "\n", nil
}

func (c *Coordinator) updateGet(q *request) (any, *refusal) {
	if c.pending == nil {
		return nil, q.errorReply(404, 404, noUpdate)
	}
	n := len(c.missing())
	return wire.PendingUpdate{Manifest: c.pending, Message: missingText(n), MissingUsers: c.missing()}, nil
}

func (c *Coordinator) missing() []string {
	var names []string
	for _, name := range c.userNames() {
		if !c.acks[name] {
			names = append(names, name)
		}
	}
	return names
}

func (c *Coordinator) updateApply(q *request) (any, *refusal) {
	m, refused := q.manifest()
	if refused != nil {
		return nil, refused
	}
	if c.pending != nil {
		return nil, q.errorReply(400, 500, updatePending)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(m, &doc); err != nil {
		return nil, q.errorReply(400, 500, "invalid manifest: "+err.Error())
	}
	if len(doc) == 1 && doc["Packages"] != nil {
		return c.packageUpdate(q, doc["Packages"])
	}
	c.pending, c.acks = m, map[string]bool{q.user: true}
	return c.acknowledged(q)
}

func (c *Coordinator) packageUpdate(q *request, packages json.RawMessage) (any, *refusal) {
	var p map[string]struct{ SecurityVersion uint }
	if err := json.Unmarshal(packages, &p); err != nil {
		return nil, q.errorReply(400, 500, err.Error())
	}
	for name, v := range p {
		c.log = append(c.log, fmt.Sprintf(`{"time":"2026-01-02T03:04:05.000Z","update":"SecurityVersion increased",`+
			`"user":%q,"package":%q,"new version":%d}`, q.user, name, v.SecurityVersion))
	}
	if !q.v2 {
		return nil, nil
	}
	return wire.UpdateApplyReply{}, nil
}

// acknowledged applies the pending update if nobody is missing, and tells what is.
func (c *Coordinator) acknowledged(q *request) (any, *refusal) {
	reply := wire.AcknowledgeReply{MissingUsers: c.missing(), MissingAcknowledgments: len(c.missing())}
	if len(reply.MissingUsers) == 0 {
		c.manifest, c.pending = c.pending, nil
		reply.RecoverySecrets = c.recoveryData()
		reply.Message = "All users have acknowledged the update manifest. Update successfully applied"
	} else {
		reply.Message = missingText(reply.MissingAcknowledgments)
	}
	switch {
	case !q.v2 && q.path == "/update":
		return nil, nil
	case !q.v2:
		return reply.Message, nil
	case q.path == "/update":
		return wire.UpdateApplyReply{
			MissingAcknowledgments: reply.MissingAcknowledgments, MissingUsers: reply.MissingUsers,
			RecoverySecrets: reply.RecoverySecrets,
		}, nil
	}
	return reply, nil
}

func (c *Coordinator) acknowledge(q *request) (any, *refusal) {
	m, refused := q.manifest()
	switch {
	case refused != nil:
		return nil, refused
	case c.pending == nil:
		return nil, q.errorReply(404, 404, noUpdate)
	case !bytes.Equal(m, c.pending):
		return nil, q.errorReply(500, 500, "provided manifest does not match the pending manifest")
	}
	c.acks[q.user] = true
	return c.acknowledged(q)
}

func (c *Coordinator) cancel(q *request) (any, *refusal) {
	if c.pending == nil {
		return nil, q.errorReply(404, 404, noUpdate)
	}
	c.pending = nil
	if q.v2 {
		return wire.MessageReply{Message: "Update successfully cancelled"}, nil
	}
	return "Update successfully cancelled", nil
}

func (c *Coordinator) secretGet(q *request) (any, *refusal) {
	names := q.URL.Query()["s"]
	if len(names) == 0 {
		return nil, q.fail(400, "invalid query: endpoint requires at least one query parameter")
	}
	values := map[string]wire.Secret{}
	for _, name := range names {
		value, ok := c.secrets[name]
		if !ok {
			return nil, q.errorReply(400, 500, "user "+q.user+" is not allowed to read one or more secrets of: "+name)
		}
		values[name] = value
	}
	if q.v2 {
		return wire.SecretsReply{Secrets: values}, nil
	}
	return values, nil
}

func (c *Coordinator) secretSet(q *request) (any, *refusal) {
	var request wire.SecretsRequest
	var err error
	if q.v2 {
		err = json.Unmarshal(q.body, &request)
	} else {
		err = json.Unmarshal(q.body, &request.Secrets)
	}
	if err != nil {
		return nil, q.fail(400, "bad request: "+err.Error())
	}
	for name, value := range request.Secrets {
		secret := wire.Secret{Type: "plain", UserDefined: true, Shared: true, Private: value.Key, Public: value.Key}
		if value.Cert != nil {
			secret = wire.Secret{Type: "cert-ecdsa", Size: 256, UserDefined: true, Cert: value.Cert, Private: value.Private}
		}
		c.secrets[name] = secret
	}
	return nil, nil
}
