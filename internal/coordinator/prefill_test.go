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

// TestPrefill is a tool of test/bench: it writes a history of activations through the kernel, without their cryptography.
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
	const workers = 64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				_, err := k.submit(t.Context(), "", func(s *State) (outcome, error) {
					return outcome{events: []event{&marbleActivated{
						Number: s.activationCount + 1, Type: "free", UUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", i), Package: "p",
					}}}, nil
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
