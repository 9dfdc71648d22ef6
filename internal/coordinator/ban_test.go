// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/immutable"
)

const bannedUUID = "0f0e0d0c-0b0a-4908-8706-050403020100"

func evidenceHash(evidence string) string {
	sum := sha256.Sum256([]byte(evidence))
	return hex.EncodeToString(sum[:])
}

func mustBan(t *testing.T, c *Coordinator, target wire.BanTarget) wire.Ban {
	t.Helper()
	b, err := c.ChangeBan(t.Context(), "alice", wire.BanRequest{BanTarget: target})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bans(t *testing.T, c *Coordinator) []wire.BanTarget {
	t.Helper()
	var list []wire.BanTarget
	if err := c.Bans(t.Context(), func(b wire.Ban) error {
		if b.BannedBy != "alice" || b.Time == "" {
			t.Errorf("%+v", b)
		}
		list = append(list, b.BanTarget)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// Bans are kept in canonical form, once each, through restarts and snapshots, until they are lifted.
func TestBans(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), livingRoles(t))
	hash := evidenceHash("e")
	first := mustBan(t, c, wire.BanTarget{MarbleType: "m", UUID: "urn:uuid:" + strings.ToUpper(bannedUUID)})
	if first.UUID != bannedUUID {
		t.Errorf("UUID %q is not canonical", first.UUID)
	}
	mustBan(t, c, wire.BanTarget{MarbleType: "m", EvidenceSHA256: strings.ToUpper(hash)})
	position := k.state.Load().position
	if again := mustBan(t, c, wire.BanTarget{MarbleType: "m", UUID: bannedUUID}); again != first {
		t.Errorf("banned again: %+v, before %+v", again, first)
	}
	if p := k.state.Load().position; p != position {
		t.Error("banning again wrote a record")
	}
	want := []wire.BanTarget{{MarbleType: "m", EvidenceSHA256: hash}, {MarbleType: "m", UUID: bannedUUID}}
	if d := cmp.Diff(want, bans(t, c)); d != "" {
		t.Error(d)
	}
	snapshot, err := k.state.Load().encode()
	if err == nil {
		err = c.vault.Snapshot(t.Context(), position, snapshot)
	}
	if err != nil {
		t.Fatal(err)
	}
	lift := wire.BanRequest{BanTarget: wire.BanTarget{MarbleType: "m", EvidenceSHA256: hash}, Lift: true}
	if lifted, err := c.ChangeBan(t.Context(), "alice", lift); err != nil || lifted.BannedBy != "alice" {
		t.Error(lifted, err)
	}
	if _, err := c.ChangeBan(t.Context(), "alice", lift); CodeOf(err) != Invalid ||
		!strings.HasPrefix(err.Error(), "there is no ban of evidence with SHA-256 "+hash) {
		t.Errorf("lifted again: %v", err)
	}
	live := encoded(t, c)
	c = reopen(t, c)
	if d := cmp.Diff(live, encoded(t, c)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want[1:], bans(t, c)); d != "" {
		t.Error(d)
	}
	log := []string{
		`"update":"Marble banned","user":"alice","marbleType":"m","uuid":"` + bannedUUID + `"}`,
		`"update":"Marble banned","user":"alice","marbleType":"m","evidenceSHA256":"` + hash + `"}`,
		`"update":"Marble ban lifted","user":"alice","marbleType":"m","evidenceSHA256":"` + hash + `"}`,
	}
	if d := cmp.Diff(log, updateLogTail(t, c, 3)); d != "" {
		t.Error(d)
	}
}

func TestBanRefusals(t *testing.T) {
	c, _ := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), livingRoles(t))
	for name, tt := range map[string]struct {
		user   string
		target wire.BanTarget
		code   Code
		text   string
	}{
		"nobody":       {"mallory", wire.BanTarget{MarbleType: "m", UUID: bannedUUID}, Forbidden, "user mallory is not allowed to ban marble m"},
		"another type": {"alice", wire.BanTarget{MarbleType: "limited", UUID: bannedUUID}, Forbidden, "user alice is not allowed to ban marble limited"},
		"no type":      {"alice", wire.BanTarget{UUID: bannedUUID}, BadRequest, "a ban needs a marbleType"},
		"neither":      {"alice", wire.BanTarget{MarbleType: "m"}, BadRequest, "a ban needs either"},
		"both":         {"alice", wire.BanTarget{MarbleType: "m", UUID: bannedUUID, EvidenceSHA256: evidenceHash("")}, BadRequest, "a ban needs either"},
		"no UUID":      {"alice", wire.BanTarget{MarbleType: "m", UUID: "x"}, BadRequest, "invalid UUID: "},
		"no hex":       {"alice", wire.BanTarget{MarbleType: "m", EvidenceSHA256: strings.Repeat("x", 64)}, BadRequest, "evidenceSHA256 is not 64 hex digits"},
		"short":        {"alice", wire.BanTarget{MarbleType: "m", EvidenceSHA256: "abcd"}, BadRequest, "evidenceSHA256 is not 64 hex digits"},
	} {
		for _, lift := range []bool{false, true} {
			_, err := c.ChangeBan(t.Context(), tt.user, wire.BanRequest{BanTarget: tt.target, Lift: lift})
			if CodeOf(err) != tt.code || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("%s, lift %v: %v", name, lift, err)
			}
		}
	}
}

// A Marble is refused by its UUID in any form and by its evidence, and only under the banned type. A ban that comes
// between preparation and decision counts.
func TestBannedMarbles(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), livingRoles(t))
	type marble struct{ kind, uuid, evidence string }
	prepared := func(m marble) *activation {
		req := ActivateRequest{MarbleType: m.kind, UUID: m.uuid, Evidence: []byte(m.evidence)}
		return &activation{c: c, req: req, banKeys: banKeys(req), read: k.state.Load().generations}
	}
	kept := map[string]marble{
		"UUID":            {"m", bannedUUID, ""},
		"UUID, in caps":   {"m", strings.ToUpper(bannedUUID), "x"},
		"UUID, a URN":     {"m", "urn:uuid:" + bannedUUID, "x"},
		"UUID, no dashes": {"m", strings.ReplaceAll(bannedUUID, "-", ""), "x"},
		"evidence":        {"m", "00000000-0000-4000-8000-000000000001", "bad"},
	}
	let := map[string]marble{
		"another UUID":     {"m", "00000000-0000-4000-8000-000000000001", "good"},
		"another type":     {"limited", bannedUUID, "bad"},
		"no UUID is later": {"m", "x", ""},
	}
	before := map[string]*activation{}
	for name, m := range kept {
		before[name] = prepared(m)
	}
	mustBan(t, c, wire.BanTarget{MarbleType: "m", UUID: bannedUUID})
	mustBan(t, c, wire.BanTarget{MarbleType: "m", EvidenceSHA256: evidenceHash("bad")})
	s := k.state.Load()
	for name, a := range before {
		const text = "marble verification failed: marble is banned by its "
		if _, err := a.decide(s); CodeOf(err) != RefusedMarble || !strings.HasPrefix(err.Error(), text) ||
			!strings.Contains(err.Error(), "banned by user alice at ") {
			t.Errorf("%s, in the writer: %v", name, err)
		}
		if err := prepared(kept[name]).prepare(t.Context(), s); CodeOf(err) != RefusedMarble || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("%s, on the snapshot: %v", name, err)
		}
	}
	for name, m := range let {
		if err := prepared(m).checkBan(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for m, banned := range map[Marble]bool{{"m", bannedUUID}: true, {"limited", bannedUUID}: false} {
		err := s.checkMarbleBan(m)
		if banned != (CodeOf(err) == Unauthorized) || banned != (err != nil) {
			t.Errorf("certificate of %+v: %v", m, err)
		}
		_, err = c.RaiseCounter(t.Context(), m, "c", 1)
		if banned != (CodeOf(err) == Unauthorized) || banned != (err != nil) {
			t.Errorf("counter of %+v: %v", m, err)
		}
	}
}

// Bans outlive an update that removes their Marble type.
func TestBansOutliveUpdates(t *testing.T) {
	roles := livingRoles(t)
	c, _ := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), roles)
	mustBan(t, c, wire.BanTarget{MarbleType: "m", UUID: bannedUUID})
	next := strings.Replace(string(testManifest(roles)), `"m":{"Package":"p"}`, `"n":{"Package":"p"}`, 1)
	next = strings.Replace(next, `"ResourceNames":["m"]`, `"ResourceNames":["n"]`, 1)
	if _, err := c.Update(t.Context(), "alice", []byte(next)); err != nil {
		t.Fatal(err)
	}
	c = reopen(t, c)
	if d := cmp.Diff([]wire.BanTarget{{MarbleType: "m", UUID: bannedUUID}}, bans(t, c)); d != "" {
		t.Error(d)
	}
}

// There is a last ban.
func TestBansAreBounded(t *testing.T) {
	full := &State{}
	all := map[string]ban{}
	for i := range maxBans {
		all[fmt.Sprint(i)] = ban{}
	}
	full.bans = immutable.From(all)
	if _, err := (banTarget{MarbleType: "m", UUID: bannedUUID}).ban(full); CodeOf(err) != Invalid {
		t.Errorf("one more: %v", err)
	}
	full.bans = full.bans.Without("0")
	if out, err := (banTarget{MarbleType: "m", UUID: bannedUUID}).ban(full); err != nil || len(out.events) != 1 {
		t.Errorf("the last: %v", err)
	}
}
