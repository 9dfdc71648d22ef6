// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster_test proves that the command cluster beside it does what its manual says, on a real cluster:
//
//	MARBLERUN_CLUSTER_TEST=1 go test -count=1 -v ./test/cluster
//
// It needs root. Without the variable every test skips. TestCluster runs outside; it runs TestInside as the command's
// users do, with go test -exec.
//
// Invariant: what was on the machine before is there afterwards, and nothing else.
package cluster_test
