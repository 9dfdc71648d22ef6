// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"strings"
	"time"

	"github.com/marblerun/marblerun/test/harness"
)

// updater applies a package update, a full update, and a full update that changes the recovery keys, at a quarter, at
// half and at three quarters of the load. It returns how many were applied.
func (d *deployment) updater() (applied int) {
	alice, bob := d.Client(d.certs["alice"]), d.Client(d.certs["bob"])
	defer alice.CloseIdleConnections()
	defer bob.CloseIdleConnections()
	deadline, _ := d.ctx.Deadline()
	pause := time.Until(deadline) / 4
	wait := func() {
		select {
		case <-d.ctx.Done():
		case <-time.After(pause):
		}
	}
	wait()
	if _, ok := d.call(alice, "POST", "/api/v2/update", harness.V2(d.t,
		[]byte(`{"Packages":{"p":{"SecurityVersion":2}}}`))); ok {
		applied++
	}
	keys := object{"rk": recoveryKey}
	for _, sections := range []object{{"Infrastructures": object{}}, {"RecoveryKeys": keys}} {
		wait()
		body := harness.V2(d.t, d.manifest(sections))
		if _, ok := d.call(alice, "POST", "/api/v2/update", body); !ok {
			continue
		}
		if r, ok := d.call(bob, "POST", "/api/v2/update-manifest", body); ok && strings.Contains(r.Body,
			"Update successfully applied") {
			applied++
		}
	}
	return applied
}
