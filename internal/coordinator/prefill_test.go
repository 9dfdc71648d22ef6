// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

// TestPrefill is a tool of test/bench: it writes a history through the kernel, without the cryptography of requests.
// MARBLERUN_PREFILL_KIND is activations (default), or writes: uploaded secrets and raised counters in turn.
func TestPrefill(t *testing.T) {
	dir := os.Getenv("MARBLERUN_PREFILL_DIR")
	if dir == "" {
		t.Skip("SKIP: only a tool of `make bench`")
	}
	n, err := strconv.Atoi(os.Getenv("MARBLERUN_PREFILL"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(os.Getenv("MARBLERUN_PREFILL_MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	c := newTestCoordinator(t, dir)
	if _, err := c.SetManifest(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	k := c.phase.Load().kernel
	prefill := prefillActivation
	if os.Getenv("MARBLERUN_PREFILL_KIND") == "writes" {
		prefill = prefillWrites(k.state.Load())
	}
	const workers = 64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				_, err := k.submit(t.Context(), "", func(s *State) (outcome, error) {
					return outcome{events: []event{prefill(s, i)}}, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func prefillActivation(s *State, i int) event {
	return &marbleActivated{
		Number: s.activationCount + 1, Type: "free", UUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", i), Package: "p",
	}
}

// prefillWrites uploads all user-defined secrets in turn, and raises the counters of 1000 Marbles.
func prefillWrites(s *State) func(*State, int) event {
	var names []string
	for name, v := range s.stored.Sorted() {
		if v.UserDefined {
			names = append(names, name)
		}
	}
	return func(s *State, i int) event {
		if i%2 == 1 {
			m := Marble{Type: "m", UUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", i%2000)}
			return &counterRaised{Key: counterKey(m, "c"), Value: uint64(i)}
		}
		name := names[i/2%len(names)]
		v := s.stored.Value(name).Value
		v.Private = fmt.Appendf(nil, "value %d", i)
		v.Public = v.Private
		return &secretsWritten{Number: s.secretLineCount + 1, Secrets: map[string]secretValue{name: v}}
	}
}
