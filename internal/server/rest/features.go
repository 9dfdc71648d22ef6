// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"errors"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

// feature refuses unless the manifest enables the gate.
func (c *call) feature(gate string) error {
	if c.api.cfg.Coordinator.FeatureEnabled(gate) {
		return nil
	}
	return refuse(coordinator.FeatureDisabled, "%s feature is not enabled in the manifest", gate)
}

// signQuote's failures say in their data what is wrong with the quote (client-api.md §11).
func (c *call) signQuote() (any, error) {
	if err := c.feature("SignQuoteEndpoint"); err != nil {
		return nil, err
	}
	req, err := decode[wire.SignQuoteRequest](c, maxSmall)
	if coordinator.CodeOf(err) == coordinator.BadRequest {
		return nil, aboutQuote(err, "failed to parse JSON data")
	}
	if err != nil {
		return nil, err
	}
	if err := c.enter(c.api.gates.signQuote); err != nil {
		return nil, err
	}
	status, signature, err := c.api.cfg.Coordinator.SignQuote(c.ctx, req.SGXQuote)
	var e *coordinator.Error
	if errors.As(err, &e) && e.Code == coordinator.QuoteRefused {
		const text = "quote verification failed"
		return nil, aboutQuote(refuse(e.Code, text), text+": "+strings.TrimPrefix(e.Message, text+": "))
	}
	return wire.SignQuoteReply{TCBStatus: status, VerificationSignature: signature}, err
}

func aboutQuote(err error, text string) error {
	return &detailed{error: err, data: map[string]string{"sgxQuote": text}}
}

// raiseCounter checks in the order of client-api.md §12: gate, certificate, body.
func (c *call) raiseCounter() (any, error) {
	if err := c.feature("MonotonicCounter"); err != nil {
		return nil, err
	}
	marble, err := c.api.cfg.Coordinator.AuthenticateMarble(c.certificates())
	if err != nil {
		return nil, err
	}
	req, err := decode[wire.MonotonicCounterRequest](c, maxSmall)
	if err != nil {
		return nil, err
	}
	previous, err := c.api.cfg.Coordinator.RaiseCounter(c.ctx, marble, req.Name, req.Value)
	return wire.MonotonicCounterReply{Value: previous}, err
}
