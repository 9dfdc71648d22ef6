// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// progress is what one client, which writes 1, 2, 3 …, knows: all up to acknowledged are durable, none above
// attempted was asked for.
type progress struct{ acknowledged, attempted uint64 }

func (p *progress) run(write func(n uint64) bool) {
	for {
		p.attempted++
		if !write(p.attempted) {
			return
		}
		p.acknowledged = p.attempted
	}
}

// found checks what is there after a crash, and goes on from it.
func (p *progress) found(t *testing.T, what string, n uint64) {
	t.Helper()
	if n < p.acknowledged || n > p.attempted {
		t.Errorf("%s is %d; acknowledged %d, attempted %d", what, n, p.acknowledged, p.attempted)
	}
	p.acknowledged, p.attempted = n, n
}

// kill -9 during secret writes and counter raises: two secrets written together are both there or both not, values
// never go back, and nothing acknowledged is lost.
func TestKillDuringWrites(t *testing.T) {
	d := newDeployment(t)
	d.MustSetManifest(d.manifest(nil))
	marble := d.marbleClient("00000000-0000-4000-8000-000000000001")
	d.clients["marble"] = marble
	owners := map[string]*progress{"a": {}, "b": {}}
	counter := &progress{}
	for range planned(t, 40) {
		d.killDuring(40*time.Millisecond, func() {
			var all sync.WaitGroup
			for owner, p := range owners {
				all.Go(func() { p.run(func(n uint64) bool { return d.writePair(owner, n) }) })
			}
			all.Go(func() {
				counter.run(func(n uint64) bool {
					return d.acknowledged("marble", "/api/v2/monotonic-counter", fmt.Appendf(nil, `{"name":"c","value":%d}`, n))
				})
			})
			all.Wait()
		})
		d.mustBeRunning()
		for owner, p := range owners {
			p.found(t, "secret "+owner, d.readPair(owner))
		}
		r := d.must("marble", "POST", "/api/v2/monotonic-counter", []byte(`{"name":"c","value":0}`))
		counter.found(t, "counter", decode[wire.MonotonicCounterReply](t, r).Value)
	}
	t.Logf("%d kills, %d and %d secret writes, %d raises", d.kills, owners["a"].acknowledged, owners["b"].acknowledged,
		counter.acknowledged)
	if owners["a"].acknowledged == 0 || counter.acknowledged == 0 {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
}

func (d *deployment) writePair(owner string, n uint64) bool {
	v := strconv.FormatUint(n, 10)
	return d.acknowledged("alice", "/api/v2/secrets", secretsBody(map[string]string{owner + "0": v, owner + "1": v}))
}

func (d *deployment) readPair(owner string) uint64 {
	d.t.Helper()
	first, second := d.secret(owner+"0"), d.secret(owner+"1")
	if !bytes.Equal(first, second) {
		d.t.Errorf("half a write: %q and %q", first, second)
	}
	n, err := strconv.ParseUint(string(first), 10, 64)
	if err != nil && len(first) > 0 {
		d.t.Fatal(err)
	}
	return n
}

// kill -9 during package updates: version, CA and shared certificates change together.
func TestKillDuringPackageUpdates(t *testing.T) {
	d := newDeployment(t)
	d.MustSetManifest(d.manifest(nil))
	p := &progress{acknowledged: 1, attempted: 1}
	for range planned(t, 15) {
		d.killDuring(50*time.Millisecond, func() {
			p.run(func(n uint64) bool {
				body, _ := json.Marshal(wire.ManifestRequest{Manifest: fmt.Appendf(nil,
					`{"Packages":{"p":{"SecurityVersion":%d}}}`, n)})
				return d.acknowledged("alice", "/api/v2/update", body)
			})
		})
		d.consistent()
		version := uint64(1)
		if line := lastOf(d.log(), `"update":"SecurityVersion increased"`); line != "" {
			_, text, _ := strings.Cut(line, `"new version":`)
			var err error
			if version, err = strconv.ParseUint(strings.TrimSuffix(text, "}"), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		p.found(t, "version", version)
	}
	t.Logf("%d kills, version %d", d.kills, p.acknowledged)
	if p.acknowledged == 1 {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
}

// kill -9 while SealMode changes to Disabled and back: the state is before (3, or 2 where nothing is stored) or after.
func TestKillDuringSealingOnAndOff(t *testing.T) {
	rounds, after := planned(t, 10), 0
	var took time.Duration
	for round := range rounds {
		d := newDeployment(t)
		d.took = took
		on, off := object{"UpdateThreshold": 1}, object{"UpdateThreshold": 1, "SealMode": "Disabled"}
		toOff := round%2 == 0
		if !toOff {
			on, off = off, on
		}
		before, next := d.manifest(object{"Config": on}), d.manifest(object{"Config": off})
		d.MustSetManifest(before)
		acknowledged := false
		d.killDuring(60*time.Millisecond, func() {
			acknowledged = d.acknowledged("alice", "/api/v2/update", harness.V2(t,
				next))
		})
		took = d.took
		code, err := d.Status()
		switch {
		case err != nil:
			t.Fatal(err)
		case code == 2 && toOff, code == 3 && !toOff && bytes.Equal(d.current(), next):
			after++
		case acknowledged:
			t.Errorf("round %d: state %d after an acknowledged update\n%s", round, code, tail(d.Log(), 3000))
		case code == 2:
		case code == 3 && bytes.Equal(d.current(), before):
			d.consistent()
		default:
			t.Errorf("round %d: state %d\n%s", round, code, tail(d.Log(), 3000))
		}
		d.Kill()
	}
	t.Logf("%d kills, %d after the change", rounds, after)
}

// kill -9 between the steps of a recovery: shares that were accepted are there, the last one opens the old state, and
// the steps that are left can be taken.
func TestKillDuringRecovery(t *testing.T) {
	d := newDeployment(t)
	holders, keys := []holder{newHolder(t), newHolder(t), newHolder(t)}, object{}
	for i, h := range holders {
		keys[fmt.Sprintf("rk%d", i)] = h.pem
	}
	encrypted := d.MustSetManifest(d.manifest(object{
		"RecoveryKeys": keys, "Config": object{"RecoveryThreshold": 2, "UpdateThreshold": 1},
	}))
	var shares [][]byte
	for i, h := range holders {
		shares = append(shares, h.request(t, h.decrypt(t, encrypted[fmt.Sprintf("rk%d", i)])))
	}
	d.writePair("a", 7)
	want := d.Get("/api/v2/manifest").Body
	d.Kill()
	rounds, opened := planned(t, 20), 0
	var took time.Duration
	for round := range rounds {
		first, second := round%3, (round+1)%3
		r := *d
		r.took = took
		r.Coordinator = harness.Start(t, harness.Options{Dir: copySealedData(t, d.Dir)})
		for name := range d.clients {
			defer d.clients[name].CloseIdleConnections()
		}
		var accepted [2]bool
		r.killDuring(60*time.Millisecond, func() {
			for i, share := range []int{first, second} {
				if accepted[i] = r.acknowledged("", "/api/v2/recover", shares[share]); !accepted[i] {
					return
				}
			}
		})
		took = r.took
		if r.finish(accepted, shares[first], shares[second]) {
			opened++
		}
		if got := r.Get("/api/v2/manifest").Body; got != want || r.readPair("a") != 7 {
			t.Errorf("round %d: another state after recovery: %s", round, got)
		}
		r.Kill()
	}
	t.Logf("%d kills, %d of them after the last step", rounds, opened)
}

// finish takes the steps that are left after a kill. It tells whether none was.
func (d *deployment) finish(accepted [2]bool, first, second []byte) bool {
	d.t.Helper()
	code, err := d.Status()
	if err != nil {
		d.t.Fatal(err)
	}
	if code == 3 {
		return true
	}
	if accepted[1] {
		d.t.Errorf("state %d after a recovery that was answered with success\n%s", code, tail(d.Log(), 3000))
	}
	again, err := d.try("", http.MethodPost, "/api/v2/recover", first)
	switch {
	case err != nil:
		d.t.Fatal(err)
	case accepted[0] && !strings.Contains(again.Message, "already used"):
		d.t.Errorf("the first share was accepted and is gone: %d %s", again.Code, again.Body)
	}
	// The second one may have arrived before the kill, without an answer.
	if code, _ := d.Status(); code != 3 {
		last, err := d.try("", http.MethodPost, "/api/v2/recover", second)
		if err != nil || last.Code != http.StatusOK && !strings.Contains(last.Message, "already used") {
			d.t.Errorf("second share: %d %s %v", last.Code, last.Body, err)
		}
	}
	d.mustBeRunning()
	return false
}
