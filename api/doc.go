// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package api is the Go client of a Coordinator's client API.
//
// Trust comes first. VerifyCoordinator fetches a Coordinator's certificates and quote, verifies the quote through a
// Verifier that the caller chooses, and returns the root certificate that the quote speaks for. Everything else is a
// method of a Client, which is pinned to that root certificate:
//
//	client, coordinator, err := api.Connect(ctx, "coordinator.example:4433", verifyOptions, api.Options{})
//	client, err := api.NewClient("coordinator.example:4433", api.Options{Root: savedRoot})
//
// # Invariants
//
//   - Pinned means byte for byte: a connection is used only if the leaf certificate that the server proves to own
//     equals Options.Root. Chaining to the root is not enough, because Marbles own certificates that chain to it, with
//     names that their host may choose. Names, validity times and system roots play no part: equality implies all they
//     could add.
//   - No server is trusted by omission: without a root, NewClient fails unless Options.InsecureAnyServer says so.
//   - What the Coordinator says about itself is checked where it can be: the intermediate against the root, the
//     connection of the quote against the root, a manifest's fingerprint against its bytes and its signature against
//     the root.
//   - Version 2 of the API is asked first. Version 1 is asked only if the Coordinator answers 405 (which is how it says
//     that it does not know a path), and only where version 1 has the operation.
//   - Replies are bounded in size, connecting and handshaking in time. A call whose context has no deadline gets
//     Options.Timeout. Redirects are not followed, proxies are not taken from the environment.
//   - A Client is safe for concurrent use and keeps one connection pool. Close frees its idle connections.
//
// # Errors
//
// A Coordinator's refusal is a *RequestError, 401 included. A quote that verifies but does not fit the policy is a
// *PolicyError, from which errors.As also yields a *TCBStatusError if the TCB status was among the reasons. Hint
// returns the advice that an error carries, if any.
package api
