// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package injector tests the injector as the chart installs it, on a real cluster: what the API server makes of its
// patches, what the scheduler and the node make of the Pods, and what happens to people who create Pods while
// certificates are rotated and Pods of the injector come and go.
//
// What the injector decides about a Pod is tested beside it, in internal/kube/inject; here is what only a real API server
// can say.
package injector
