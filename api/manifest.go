// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
)

// The states of a Coordinator.
const (
	StateRecovery        = 1
	StateAcceptsManifest = 2
	StateAcceptsMarbles  = 3
	stateUnknown         = -1
)

// activationsPageLength is how many activations are asked for at once.
const activationsPageLength = 1000

// Status is a Coordinator's state (Code) and what it says of it.
type Status = wire.StatusV2

// Status returns the Coordinator's state; Code is -1 on error.
func (c *Client) Status(ctx context.Context) (Status, error) {
	status, err := either(
		func() (Status, error) { return get[Status](ctx, c, v2+"/status", nil) },
		func() (Status, error) {
			old, err := get[wire.StatusV1](ctx, c, "/status", nil)
			return Status{Code: old.StatusCode, Message: old.StatusMessage}, err
		})
	if err != nil {
		status.Code = stateUnknown
	}
	return status, err
}

// Manifest is the manifest that a Coordinator runs.
type Manifest struct {
	// Bytes is exactly what was set.
	Bytes []byte
	// Fingerprint is the SHA-256 of Bytes, lower-case hex.
	Fingerprint string
	// Signature is the root key's ECDSA signature over the SHA-256 of Bytes, ASN.1.
	Signature []byte
}

// ManifestGet returns the Coordinator's manifest. It recomputes the fingerprint and verifies the signature with the
// pinned root (without a root, Options.InsecureAnyServer, only the fingerprint). ErrNoManifest if none is set.
func (c *Client) ManifestGet(ctx context.Context) (*Manifest, error) {
	m, err := either(
		func() (wire.ManifestV2, error) { return get[wire.ManifestV2](ctx, c, v2+"/manifest", nil) },
		func() (wire.ManifestV2, error) {
			old, err := get[wire.ManifestV1](ctx, c, "/manifest", nil)
			return wire.ManifestV2{
				Manifest: old.Manifest, ManifestFingerprint: old.ManifestSignature,
				ManifestSignatureRootECDSA: old.ManifestSignatureRootECDSA,
			}, err
		})
	if err != nil {
		return nil, noManifest(err)
	}
	if m.ManifestFingerprint == "" && len(m.Manifest) == 0 {
		return nil, noManifest(ErrNoManifest)
	}
	manifest := &Manifest{Bytes: m.Manifest, Fingerprint: m.ManifestFingerprint, Signature: m.ManifestSignatureRootECDSA}
	return manifest, c.checkManifest(manifest)
}

// noManifest recognizes how version 2 says that there is none.
func noManifest(err error) error {
	var refused *RequestError
	if errors.As(err, &refused) && refused.Message == "requested value not set" {
		err = fmt.Errorf("%w: %w", ErrNoManifest, err)
	}
	if errors.Is(err, ErrNoManifest) {
		return WithHint(err, "Set one with 'marblerun manifest set'; 'marblerun status' tells whether it would be taken.")
	}
	return err
}

func (c *Client) checkManifest(m *Manifest) error {
	sum := sha256.Sum256(m.Bytes)
	if m.Fingerprint != hex.EncodeToString(sum[:]) {
		return errors.New("the Coordinator's manifest does not have the fingerprint that the Coordinator claims")
	}
	if c.root == nil {
		return nil
	}
	key, ok := c.root.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(key, sum[:], m.Signature) {
		return errors.New("the manifest's signature was not made by the Coordinator's root key")
	}
	return nil
}

// CheckManifest returns ErrManifestMismatch unless the Coordinator runs the manifest with this fingerprint (hex).
func (c *Client) CheckManifest(ctx context.Context, fingerprint string) error {
	m, err := c.ManifestGet(ctx)
	if err != nil {
		return err
	}
	if want := strings.ToLower(fingerprint); m.Fingerprint != want {
		return fmt.Errorf("%w: %q != %q", ErrManifestMismatch, m.Fingerprint, want)
	}
	return nil
}

// ManifestSet sets the first manifest and returns the encrypted recovery secrets by name of their key.
func (c *Client) ManifestSet(ctx context.Context, manifest []byte) (map[string][]byte, error) {
	r, err := either(
		func() (wire.ManifestSetReply, error) {
			return post[wire.ManifestSetReply](ctx, c, v2+"/manifest", wire.ManifestRequest{Manifest: manifest})
		},
		func() (wire.ManifestSetReply, error) {
			return postRaw[wire.ManifestSetReply](ctx, c, "/manifest", manifest)
		})
	return r.RecoverySecrets, err
}

// ManifestLog returns the update log, one JSON object per element, oldest first.
func (c *Client) ManifestLog(ctx context.Context) ([]string, error) {
	return either(
		func() ([]string, error) {
			r, err := fetch[wire.UpdateLog](ctx, c, call{path: v2 + "/update", limit: logLimit})
			return r.UpdateLog, err
		},
		func() ([]string, error) {
			text, err := fetch[string](ctx, c, call{path: "/update", limit: logLimit})
			if text = strings.TrimSuffix(text, "\n"); text == "" {
				return nil, err
			}
			return strings.Split(text, "\n"), err
		})
}

// RecoverySecrets returns the encrypted recovery secrets of the keys in force, by name. Not offered by MarbleRun.
func (c *Client) RecoverySecrets(ctx context.Context) (map[string][]byte, error) {
	r, err := get[wire.RecoverySecretsReply](ctx, c, v2+"/recovery-secrets", nil)
	return r.RecoverySecrets, err
}

// Activation says which Marble was activated, when, and by which claims.
type Activation = wire.Activation

// ActivationsPage returns activations after a journal position, oldest first. The Coordinator may return fewer than
// limit. Next of the reply is the position for the next page, 0 if there is none. Not offered by MarbleRun.
func (c *Client) ActivationsPage(ctx context.Context, after uint64, limit int) (wire.ActivationsReply, error) {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	return get[wire.ActivationsReply](ctx, c, v2+"/activations", query)
}

// Activations returns all activations after a journal position, page by page as they are consumed. It ends at the first
// error, which it yields.
func (c *Client) Activations(ctx context.Context, after uint64) iter.Seq2[Activation, error] {
	return func(yield func(Activation, error) bool) {
		for {
			page, err := c.ActivationsPage(ctx, after, activationsPageLength)
			if err != nil {
				yield(Activation{}, err)
				return
			}
			for _, a := range page.Activations {
				if !yield(a, nil) {
					return
				}
			}
			if page.Next <= after {
				return
			}
			after = page.Next
		}
	}
}
