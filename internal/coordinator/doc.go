// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package coordinator is the kernel: a replicated state machine over a sealed journal.
//
// # The way of a request
//
// A verb (one file each) authenticates, verifies evidence and makes keys outside any lock: it prepares. Then it hands a
// decision to the writer. The writer takes all decisions that wait, runs them in order against the newest state, appends
// the events of all of them with one synced write, publishes the new state and only then answers.
//
//	request → verb: prepare → writer: decide → journal: append, sync → state: apply, publish → answer
//
// # Invariants
//
//   - A State is immutable. Readers load it from an atomic pointer and never lock.
//   - apply is deterministic and total: no clock, no randomness, no I/O. Generated keys travel in the events.
//   - decide is pure and may run twice. It compares the preparation's read set (generations) and refuses with errStale if
//     one changed; the verb then prepares again.
//   - Nothing is answered before it is durable. All events of one verb are one record: nothing is ever half applied.
//   - A failed sync stops the process; a full disk refuses writes and goes on reading.
//   - Event time never goes backwards: max(now, time of the last event).
package coordinator
