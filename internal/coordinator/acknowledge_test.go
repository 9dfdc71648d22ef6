// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"path/filepath"
	"runtime"
	"testing"
)

// A repeated acknowledgement that races with a cancellation must not answer "applied".
func TestAcknowledgeAgainWhileCanceled(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), "")
	update := pendingUpdate{Manifest: []byte("{}"), Eligible: []string{"alice", "bob"}, Required: 2,
		Acknowledged: []string{"alice"}}
	_, err := k.submit(t.Context(), "alice", func(*State) (outcome, error) {
		return outcome{events: []event{&updateProposed{Update: update}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := c.Acknowledge(t.Context(), "alice", []byte("{}"))
	if err != nil || result.MissingAcknowledgments != 1 {
		t.Fatalf("%+v, %v", result, err)
	}

	// Hold the writer; queue the cancellation, then acknowledge on the state that is still published.
	entered, release := make(chan struct{}), make(chan struct{})
	go k.submit(t.Context(), "", func(*State) (outcome, error) {
		close(entered)
		<-release
		return outcome{}, nil
	})
	<-entered
	canceled := make(chan error, 1)
	go func() {
		_, err := k.submit(t.Context(), "carol", func(*State) (outcome, error) {
			return outcome{events: []event{&updateCanceled{User: "carol"}}}, nil
		})
		canceled <- err
	}()
	for len(k.queue) < 1 {
		runtime.Gosched()
	}
	acknowledged := make(chan error, 1)
	go func() {
		_, err := c.Acknowledge(t.Context(), "alice", []byte("{}"))
		acknowledged <- err
	}()
	for len(k.queue) < 2 {
		runtime.Gosched()
	}
	close(release)
	if err := <-canceled; err != nil {
		t.Fatal(err)
	}
	if err := <-acknowledged; CodeOf(err) != NoUpdate {
		t.Errorf("%v; want that there is no update", err)
	}
}
