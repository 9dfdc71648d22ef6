// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package fakecoordinator

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/marblerun/marblerun/api/wire"
)

func (c *Coordinator) recover(q *request) (any, *refusal) {
	var request wire.RecoverRequest
	if err := json.Unmarshal(q.body, &request); err != nil {
		return nil, q.fail(400, "bad request: "+err.Error())
	}
	if c.code != 1 {
		return nil, q.errorReply(0, 500, notInState)
	}
	secret := request.RecoverySecret
	if n := len(secret); n != 16 && n != 32 && n != 33 {
		plain, err := rsa.DecryptOAEP(sha256.New(), nil, c.ephemeral, secret, nil)
		if err != nil {
			return nil, q.fail(400, "failed to decrypt recovery secret: "+err.Error())
		}
		secret = plain
	}
	if c.got[string(secret)] || len(request.RecoverySecretSignature) == 0 {
		return nil, q.errorReply(0, 500, "setting recovery key: uploaded an invalid or already used secret")
	}
	c.got[string(secret)] = true
	remaining := c.shares - len(c.got)
	if remaining > 0 {
		return wire.RecoverReply{Remaining: remaining, Message: fmt.Sprintf(
			"Secret was processed successfully. Upload the next secret. Remaining secrets: %d", remaining)}, nil
	}
	c.code = 3
	return wire.RecoverReply{Message: "Recovery successful."}, nil
}

func (c *Coordinator) recoverKey(q *request) (any, *refusal) {
	if c.code != 1 {
		return nil, q.errorReply(0, 500, notInState)
	}
	der, err := x509.MarshalPKIXPublicKey(&c.ephemeral.PublicKey)
	if err != nil {
		return nil, q.errorReply(0, 500, err.Error())
	}
	return wire.RecoveryPublicKey{Algorithm: "RSA", EphemeralPublicKey: der}, nil
}

func (c *Coordinator) signQuote(q *request) (any, *refusal) {
	var request wire.SignQuoteRequest
	if err := json.Unmarshal(q.body, &request); err != nil {
		return nil, &refusal{code: 400, status: wire.StatusFail, message: "bad request: " + err.Error(),
			data: map[string]string{"sgxQuote": "failed to parse JSON data"}}
	}
	sum := sha256.Sum256([]byte(base64.StdEncoding.EncodeToString(request.SGXQuote) + "OutOfDate"))
	signature, _ := ecdsa.SignASN1(rand.Reader, c.rootKey, sum[:]) // fails with a bad key only
	return wire.SignQuoteReply{TCBStatus: "OutOfDate", VerificationSignature: signature}, nil
}

func (c *Coordinator) counter(q *request) (any, *refusal) {
	var request wire.MonotonicCounterRequest
	switch err := json.Unmarshal(q.body, &request); {
	case len(q.TLS.PeerCertificates) == 0:
		return nil, q.fail(401, "unauthorized marble: no client certificate")
	case err != nil:
		return nil, q.fail(400, "bad request: "+err.Error())
	}
	previous := c.counters[request.Name]
	c.counters[request.Name] = max(previous, request.Value)
	return wire.MonotonicCounterReply{Value: previous}, nil
}
