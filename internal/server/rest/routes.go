// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"net/http"
)

// Limits of request bodies, in bytes.
const (
	maxManifestV1 = 16 << 20
	maxManifestV2 = 24 << 20 // base64 of maxManifestV1, and its envelope
	maxSecrets    = 4 << 20
	maxRecover    = 20480 // of the contract; what is longer is cut there
	maxSmall      = 64 << 10
)

// route is one method of one path.
type route struct {
	// version 1 answers every failure with an error, version 2 a client's fault with a fail.
	version int
	// deprecated routes have a successor, which the log recommends.
	successor string
	// refused is the status of what the Coordinator refuses for reasons of its own (client-api.md §5).
	refused int
	handle  func(*call) (any, error)
}

const v2 = "/api/v2"

// table is client-api.md §3, and the additive endpoints.
func (a *API) table() map[string]methods {
	get, post := http.MethodGet, http.MethodPost
	t := map[string]methods{}
	add := func(path, method string, rt *route) {
		if t[path] == nil {
			t[path] = methods{}
		}
		t[path][method] = rt
	}
	old := func(path, method string, refused int, handle func(*call) (any, error)) {
		add(path, method, &route{version: 1, successor: v2 + path, refused: refused, handle: handle})
	}
	now := func(path, method string, handle func(*call) (any, error)) {
		add(v2+path, method, &route{version: 2, refused: http.StatusInternalServerError, handle: handle})
	}

	old("/status", get, 500, (*call).statusV1)
	old("/quote", get, 500, (*call).quoteV1)
	old("/manifest", get, 500, (*call).manifestV1)
	old("/manifest", post, 400, (*call).setManifestV1)
	old("/update", get, 500, (*call).updateLogV1)
	old("/update", post, 400, (*call).updateV1)
	old("/secrets", get, 400, (*call).readSecretsV1)
	old("/secrets", post, 400, (*call).writeSecretsV1)
	old("/recover", post, http.StatusGone, (*call).recoverV1)

	now("/status", get, (*call).statusV2)
	now("/ready", get, (*call).ready)
	now("/quote", get, (*call).quoteV2)
	now("/manifest", get, (*call).manifestV2)
	now("/manifest", post, (*call).setManifestV2)
	now("/update", get, (*call).updateLogV2)
	now("/update", post, (*call).updateV2)
	now("/secrets", get, (*call).readSecretsV2)
	now("/secrets", post, (*call).writeSecretsV2)
	now("/secrets/rotate", post, (*call).rotateSecrets)
	now("/bans", get, (*call).bans)
	now("/bans", post, (*call).changeBan)
	now("/recover", post, (*call).recover)
	now("/recover/public-key", get, (*call).recoveryPublicKey)
	now("/update-manifest", post, (*call).acknowledgeV2)
	now("/update-cancel", post, (*call).cancelV2)
	now("/sign-quote", post, (*call).signQuote)
	now("/monotonic-counter", post, (*call).raiseCounter)
	now("/recovery-secrets", get, (*call).recoverySecrets)
	now("/activations", get, (*call).activations)

	// Of version 1, but not deprecated.
	add("/update-manifest", post, &route{version: 1, refused: 500, handle: (*call).acknowledgeV1})
	add("/update-cancel", post, &route{version: 1, refused: 500, handle: (*call).cancelV1})
	pending := &route{version: 2, refused: http.StatusNotFound, handle: (*call).pendingUpdate}
	add("/update-manifest", get, pending)
	add(v2+"/update-manifest", get, pending)
	return t
}
