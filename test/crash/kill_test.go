// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package crash shows that nothing acknowledged is lost: the real process is killed at random points, and traced to see
// that it syncs between write and reply. The states of a deployment are found to be before or after, never between.
package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// kills is how often the process is killed, shared between the two tests.
const kills = 60

func manifest() []byte {
	return []byte(`{"Packages":{"p":{"UniqueID":"` + strings.Repeat("ab", 32) + `"}},
"Marbles":{"m":{"Package":"p","MaxActivations":1000000,"Parameters":{"Env":{"KEY":"{{ hex .Secrets.key }}"}}}},
"Secrets":{"key":{"Type":"symmetric-key","Size":128,"Shared":true}}}`)
}

// client activates until it is told to stop and remembers what was acknowledged.
type client struct {
	sync.Mutex
	acknowledged map[string]bool
	attempted    map[string]bool
	progress     chan struct{} // holds one, after an acknowledgement
}

// waitForOne returns after the next acknowledgement, which on a busy machine takes longer than any wait by the clock.
func (cl *client) waitForOne(t *testing.T) {
	t.Helper()
	select {
	case <-cl.progress:
	default:
	}
	select {
	case <-cl.progress:
	case <-time.After(time.Minute):
		t.Fatal("nothing was acknowledged for a minute")
	}
}

func (cl *client) run(ctx context.Context, c *harness.Coordinator, id harness.Identity, worker, round int) {
	for i := 0; ctx.Err() == nil; i++ {
		uuid := fmt.Sprintf("%08x-0000-4000-8000-%012x", round, worker<<32+i)
		cl.Lock()
		cl.attempted[uuid] = true
		cl.Unlock()
		if _, err := c.Activate(ctx, id, "m", uuid); err != nil {
			return // killed
		}
		cl.Lock()
		cl.acknowledged[uuid] = true
		cl.Unlock()
		select {
		case cl.progress <- struct{}{}:
		default:
		}
	}
}

// kill -9 during activations: every acknowledged activation is in the journal after the restart, once, and nothing is
// there that nobody asked for.
func TestKillDuringActivations(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifest())
	before := c.Get("/api/v2/manifest").Body
	id := harness.NewIdentity(t, "m")
	cl := &client{acknowledged: map[string]bool{}, attempted: map[string]bool{}, progress: make(chan struct{}, 1)}
	for round := range kills / 2 {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() { cl.run(ctx, c, id, worker, round) })
		}
		if round%2 == 1 {
			cl.waitForOne(t)
		}
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
		c.Kill()
		cancel()
		wg.Wait()
		c.Run()
		c.WaitReady()
		if after := c.Get("/api/v2/manifest").Body; after != before {
			t.Fatalf("round %d: the manifest changed:\n%s\n%s", round, after, c.Log())
		}
	}
	seen := activations(t, c)
	for uuid := range cl.acknowledged {
		if seen[uuid] != 1 {
			t.Errorf("acknowledged activation %s is there %d times", uuid, seen[uuid])
		}
	}
	for uuid := range seen {
		if !cl.attempted[uuid] {
			t.Errorf("activation %s was never asked for", uuid)
		}
	}
	t.Logf("%d kills, %d activations acknowledged, %d in the journal", kills/2, len(cl.acknowledged), len(seen))
}

func activations(t *testing.T, c *harness.Coordinator) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for after := uint64(0); ; {
		var page wire.ActivationsReply
		r := c.Get(fmt.Sprintf("/api/v2/activations?limit=1000&after=%d", after))
		if err := json.Unmarshal(r.Data, &page); err != nil {
			t.Fatalf("%v: %s", err, r.Body)
		}
		for _, a := range page.Activations {
			seen[a.UUID]++
		}
		if after = page.Next; after == 0 {
			return seen
		}
	}
}

// kill -9 while a manifest is set: afterwards there is none, or all of it; if it was acknowledged, it is there.
func TestKillDuringSetManifest(t *testing.T) {
	set, unset := 0, 0
	for round := range kills / 2 {
		c := harness.Start(t, harness.Options{})
		reply := make(chan bool, 1)
		body := harness.V2(t, manifest())
		go func() {
			client := c.Client()
			r, err := c.Do(client, http.MethodPost, "/api/v2/manifest", body)
			client.CloseIdleConnections()
			reply <- err == nil && r.Code == http.StatusOK
		}()
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		c.Kill()
		acknowledged := <-reply
		c.Run()
		c.WaitReady()
		code, err := c.Status()
		switch {
		case err != nil:
			t.Fatal(err)
		case code == 3:
			set++
		case code == 2 && !acknowledged:
			unset++
		default:
			t.Fatalf("round %d: state %d, acknowledged %v\n%s", round, code, acknowledged, c.Log())
		}
		c.Kill()
	}
	t.Logf("%d kills: set %d, not set %d", kills/2, set, unset)
}
