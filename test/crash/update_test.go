// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// change is one full update: alice submits, bob acknowledges.
type change struct {
	before, next []byte
	// What the clients were told before the kill.
	submitted, applied bool
	secrets            map[string][]byte
}

// kill -9 during full updates: submitted, acknowledged, applied. Every other update changes the recovery keys, and so
// the epoch; every third the seal mode. Recovery secrets that were handed out open the state.
func TestKillDuringFullUpdates(t *testing.T) {
	d := newDeployment(t)
	holders := [2]holder{newHolder(t), newHolder(t)}
	which, mode := 0, 0
	manifest := func(name string) []byte {
		return d.manifest(object{
			"Marbles":      object{"m": object{"Package": "p"}, name: object{"Package": "p"}},
			"RecoveryKeys": object{"rk": holders[which].pem},
			"Config":       object{"UpdateThreshold": 2, "SealMode": []string{"ProductKey", "UniqueKey"}[mode]},
		})
	}
	before := manifest("first")
	secret := holders[0].decrypt(t, d.MustSetManifest(before)["rk"])
	applied, pending := 0, 0
	for round := range planned(t, 25) {
		held, wasMode := which, mode
		if round%2 == 0 {
			which = 1 - which
		}
		if round%3 == 0 {
			mode = 1 - mode
		}
		u := &change{before: before, next: manifest(fmt.Sprintf("v%d", round))}
		d.killDuring(90*time.Millisecond, func() { u.run(d) })
		done := u.check(d)
		if !done && u.pending(d) {
			pending++
			done = u.finish(d, round%4 != 0)
		} else if done {
			applied++
		}
		if !done {
			which, mode = held, wasMode
			continue
		}
		before = u.next
		old := secret
		if which != held {
			secret = u.newSecret(d, holders[which])
		}
		if round%4 < 2 {
			d.opens(holders[which], secret, holders[held], old)
		}
	}
	d.opens(holders[which], secret, holders[which], secret)
	t.Logf("%d kills: %d after the update was applied, %d while it was pending", d.kills, applied, pending)
}

// run is what the clients do while the process is killed.
func (u *change) run(d *deployment) {
	body := harness.V2(d.t, u.next)
	if u.submitted = d.acknowledged("alice", "/api/v2/update", body); !u.submitted {
		return
	}
	r, err := d.try("bob", http.MethodPost, "/api/v2/update-manifest", body)
	if err != nil {
		return
	}
	if r.Code != http.StatusOK {
		d.t.Errorf("bob: %d %s", r.Code, r.Body)
		return
	}
	var reply wire.AcknowledgeReply
	if err := json.Unmarshal(r.Data, &reply); err != nil {
		d.t.Errorf("%v: %s", err, r.Body)
	}
	u.applied, u.secrets = true, reply.RecoverySecrets
}

// check finds the state before or after, and tells which.
func (u *change) check(d *deployment) (applied bool) {
	d.t.Helper()
	d.consistent()
	now := d.current()
	switch {
	case bytes.Equal(now, u.next):
		if u.pending(d) {
			d.t.Error("the update is applied and still pending")
		}
		return true
	case !bytes.Equal(now, u.before):
		d.t.Fatalf("neither the manifest before nor the one after:\n%s", now)
	case u.applied:
		d.t.Errorf("an update is gone that was answered with success\n%s", tail(d.Log(), 3000))
	case u.submitted && !u.pending(d):
		d.t.Errorf("a submission is gone that was answered with success\n%s", tail(d.Log(), 3000))
	}
	return false
}

func (u *change) pending(d *deployment) bool {
	d.t.Helper()
	r, err := d.try("", http.MethodGet, "/api/v2/update-manifest", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if r.Code != http.StatusOK {
		return false
	}
	p := decode[wire.PendingUpdate](d.t, r)
	if !bytes.Equal(p.Manifest, u.next) || !slices.Equal(p.MissingUsers, []string{"bob", "carol"}) {
		d.t.Errorf("pending: %s", r.Body)
	}
	return true
}

// finish applies or cancels the pending update, and tells whether it is applied.
func (u *change) finish(d *deployment, apply bool) bool {
	d.t.Helper()
	if !apply {
		d.must("carol", "POST", "/api/v2/update-cancel", nil)
		return false
	}
	r := d.must("carol", "POST", "/api/v2/update-manifest", harness.V2(d.t, u.next))
	u.secrets = decode[wire.AcknowledgeReply](d.t, r).RecoverySecrets
	d.consistent()
	return true
}

// newSecret is the one of the reply; if that was lost, it can be read.
func (u *change) newSecret(d *deployment, h holder) []byte {
	d.t.Helper()
	stored := decode[wire.RecoverySecretsReply](d.t, d.must("", "GET", "/api/v2/recovery-secrets", nil)).RecoverySecrets
	if u.secrets != nil && !bytes.Equal(stored["rk"], u.secrets["rk"]) {
		d.t.Error("the recovery secrets of the reply are not those that are stored")
	}
	return h.decrypt(d.t, stored["rk"])
}
