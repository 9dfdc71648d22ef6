// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
)

// UpdateResult is the outcome of submitting or acknowledging an update.
type UpdateResult struct {
	// MissingAcknowledgments is how many more users must acknowledge; 0: the update is applied.
	MissingAcknowledgments int
	// MissingUsers are those who may. Nil if the Coordinator only offers version 1.
	MissingUsers []string
	// RecoverySecrets are new ones, by name of their key; nil if the old ones stay good.
	RecoverySecrets map[string][]byte
}

// UpdateApply submits an update manifest. Version 1 Coordinators, and those of version 2 before MarbleRun 1.8, do not
// tell what is missing: their result is empty.
func (c *Client) UpdateApply(ctx context.Context, manifest []byte) (UpdateResult, error) {
	return either(
		func() (UpdateResult, error) {
			r, err := post[wire.UpdateApplyReply](ctx, c, v2+"/update", wire.ManifestRequest{Manifest: manifest})
			return UpdateResult{r.MissingAcknowledgments, r.MissingUsers, r.RecoverySecrets}, err
		},
		func() (UpdateResult, error) {
			_, err := postRaw[json.RawMessage](ctx, c, "/update", manifest)
			return UpdateResult{}, err
		})
}

// UpdateAcknowledge acknowledges the pending update, which must be the given bytes.
func (c *Client) UpdateAcknowledge(ctx context.Context, manifest []byte) (UpdateResult, error) {
	return either(
		func() (UpdateResult, error) {
			r, err := post[wire.AcknowledgeReply](ctx, c, v2+"/update-manifest", wire.ManifestRequest{Manifest: manifest})
			return UpdateResult{r.MissingAcknowledgments, r.MissingUsers, r.RecoverySecrets}, err
		},
		func() (UpdateResult, error) {
			text, err := postRaw[string](ctx, c, "/update-manifest", manifest)
			if err != nil {
				return UpdateResult{}, err
			}
			missing, err := parseMissing(text)
			return UpdateResult{MissingAcknowledgments: missing}, err
		})
}

// parseMissing reads the first word of a version 1 reply: "All" or a number.
func parseMissing(text string) (int, error) {
	word, _, _ := strings.Cut(text, " ")
	if word == "All" {
		return 0, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("unexpected reply of the Coordinator: %q", text)
	}
	return n, nil
}

// PendingUpdate is an update that waits for acknowledgments.
type PendingUpdate = wire.PendingUpdate

// UpdateGet returns the pending update.
func (c *Client) UpdateGet(ctx context.Context) (PendingUpdate, error) {
	return either(
		func() (PendingUpdate, error) { return get[PendingUpdate](ctx, c, v2+"/update-manifest", nil) },
		func() (PendingUpdate, error) { return get[PendingUpdate](ctx, c, "/update-manifest", nil) })
}

// UpdateCancel drops the pending update.
func (c *Client) UpdateCancel(ctx context.Context) error {
	_, err := either(
		func() (json.RawMessage, error) { return postRaw[json.RawMessage](ctx, c, v2+"/update-cancel", nil) },
		func() (json.RawMessage, error) { return postRaw[json.RawMessage](ctx, c, "/update-cancel", nil) })
	return err
}
