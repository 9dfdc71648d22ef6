// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

func (c *call) statusV1() (any, error) {
	s := c.api.cfg.Coordinator.Status()
	return wire.StatusV1{StatusCode: s.Code, StatusMessage: s.Message}, nil
}

func (c *call) statusV2() (any, error) {
	s := c.api.cfg.Coordinator.Status()
	return wire.StatusV2{Code: s.Code, Message: s.Message, Detail: s.Detail, Notes: s.Notes}, nil
}

// ready is for the probes of Kubernetes, which look at the status code only: Marbles find the Coordinator when it accepts
// them.
func (c *call) ready() (any, error) {
	if s := c.api.cfg.Coordinator.Status(); s.Code != coordinator.StateAcceptingMarbles {
		return nil, refuse(coordinator.Unavailable, "not ready to accept marbles: %d: %s", s.Code, s.Message)
	}
	return c.statusV2()
}

// quoteV1 ignores a nonce.
func (c *call) quoteV1() (any, error) {
	chain, quote, err := c.api.cfg.Coordinator.Quote(c.ctx, nil)
	return wire.QuoteV1{Cert: chain, Quote: quote}, err
}

func (c *call) quoteV2() (any, error) {
	nonce, err := base64.URLEncoding.DecodeString(c.r.URL.Query().Get("nonce"))
	if err != nil {
		return nil, badRequest("invalid query: bad nonce format: %v", err)
	}
	if len(nonce) > 0 {
		if err := c.enter(c.api.gates.quote); err != nil {
			return nil, err
		}
	}
	chain, quote, err := c.api.cfg.Coordinator.Quote(c.ctx, nonce)
	return wire.QuoteV2{Cert: chain, Quote: quote}, err
}

// manifestV1 shows whatever keeps the manifest from being read as an empty one (client-api.md §7, Q12).
func (c *call) manifestV1() (any, error) {
	m, err := c.api.cfg.Coordinator.Manifest()
	if err != nil {
		return wire.ManifestV1{}, nil
	}
	return stream(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, `{"ManifestSignatureRootECDSA":"%s","ManifestSignature":"%s","Manifest":`,
			base64.StdEncoding.EncodeToString(m.Signature), m.Fingerprint)
		return writeBase64(w, m.Bytes, err)
	}), nil
}

func (c *call) manifestV2() (any, error) {
	m, err := c.api.cfg.Coordinator.Manifest()
	if err != nil {
		return nil, err
	}
	return stream(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, `{"manifestSignatureRootECDSA":"%s","manifestFingerprint":"%s","manifest":`,
			base64.StdEncoding.EncodeToString(m.Signature), m.Fingerprint)
		return writeBase64(w, m.Bytes, err)
	}), nil
}

// writeBase64 writes the last member of an object without a copy of the data, which may be many MiB.
func writeBase64(w io.Writer, data []byte, err error) error {
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, `"`); err != nil {
		return err
	}
	enc := base64.NewEncoder(base64.StdEncoding, w)
	if _, err := enc.Write(data); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = io.WriteString(w, `"}`)
	return err
}

func (c *call) setManifestV1() (any, error) {
	data, err := c.body(maxManifestV1)
	if err != nil {
		return nil, err
	}
	secrets, err := c.setManifest(data)
	if err != nil || len(secrets) == 0 {
		return nil, err
	}
	return wire.ManifestSetReply{RecoverySecrets: secrets}, nil
}

func (c *call) setManifestV2() (any, error) {
	req, err := decode[wire.ManifestRequest](c, maxManifestV2)
	if err != nil {
		return nil, err
	}
	secrets, err := c.setManifest(req.Manifest)
	if err != nil {
		return nil, err
	}
	if secrets == nil {
		secrets = map[string][]byte{}
	}
	return wire.ManifestSetReply{RecoverySecrets: secrets}, nil
}

func (c *call) setManifest(data []byte) (map[string][]byte, error) {
	if err := c.enter(c.api.gates.manifest); err != nil {
		return nil, err
	}
	return c.api.cfg.Coordinator.SetManifest(c.ctx, data)
}

// recoverySecrets is additive. Anyone may read them: they are encrypted to their holders.
func (c *call) recoverySecrets() (any, error) {
	secrets, err := c.api.cfg.Coordinator.RecoverySecrets()
	if err != nil {
		return nil, err
	}
	if secrets == nil {
		secrets = map[string][]byte{}
	}
	return wire.RecoverySecretsReply{RecoverySecrets: secrets}, nil
}

// updateLogV1 is one string, each line ended by a newline.
func (c *call) updateLogV1() (any, error) {
	return c.updateLog(`"`, `"`, func(w io.Writer, line string, _ bool) error {
		quoted, err := json.Marshal(line + "\n")
		if err == nil {
			_, err = w.Write(quoted[1 : len(quoted)-1])
		}
		return err
	})
}

func (c *call) updateLogV2() (any, error) {
	return c.updateLog(`{"updateLog":[`, `]}`, func(w io.Writer, line string, first bool) error {
		quoted, err := json.Marshal(line)
		if err == nil && !first {
			_, err = io.WriteString(w, ",")
		}
		if err == nil {
			_, err = w.Write(quoted)
		}
		return err
	})
}

// updateLog streams the log, which may be long.
func (c *call) updateLog(before, after string, write func(w io.Writer, line string, first bool) error) (any, error) {
	if err := c.enter(c.api.gates.history); err != nil {
		return nil, err
	}
	return stream(func(w io.Writer) error {
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		first := true
		err := c.api.cfg.Coordinator.UpdateLog(c.ctx, func(line string) error {
			defer func() { first = false }()
			return write(w, line, first)
		})
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, after)
		return err
	}), nil
}

// Sizes of a page of activations.
const (
	defaultPage = 100
	maxPage     = 1000
)

// activations is additive: GET /api/v2/activations?after=POSITION&limit=N.
func (c *call) activations() (any, error) {
	query := c.r.URL.Query()
	after, limit := uint64(0), uint64(defaultPage)
	for name, v := range map[string]*uint64{"after": &after, "limit": &limit} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, badRequest("invalid query: %s must be a number", name)
		}
		*v = n
	}
	if limit == 0 {
		return nil, badRequest("invalid query: limit must be from 1 to %d", maxPage)
	}
	if err := c.enter(c.api.gates.history); err != nil {
		return nil, err
	}
	return returned(c.api.cfg.Coordinator.Activations(c.ctx, after, int(min(limit, maxPage))))
}

// returned passes on a value and an error as a handler's.
func returned[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}
