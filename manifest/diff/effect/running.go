// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest"
)

// Activation is a Marble's activation, as far as it matters here.
type Activation struct {
	Time       time.Time
	Type, UUID string
	Claims     json.RawMessage // as recorded; null or empty in simulation
}

// Activations are those that a Coordinator remembers.
type Activations struct {
	// Since is when the CA rotated the last time. Marbles that were activated before hold certificates of an older CA.
	Since time.Time
	// Collapsed counts older activations that are no longer kept one by one.
	Collapsed uint64
	// Oldest first.
	List []Activation
}

// Running is what an update means for the Marbles that were activated under the current CA. Which of them still run,
// nobody knows.
type Running struct {
	Since     time.Time     `json:"since"`
	Marbles   int           `json:"marbles"` // types and UUIDs
	Older     int           `json:"older"`   // Marbles that were only activated before
	Collapsed uint64        `json:"collapsed,omitempty"`
	Types     []RunningType `json:"types"` // sorted
}

// RunningType are the running Marbles of one type. All must restart.
type RunningType struct {
	Type  string   `json:"type"`
	Count int      `json:"count"`
	UUIDs []string `json:"uuids"` // sorted
	// Reasons are why they must restart, besides the rotation of the CA.
	Reasons []string `json:"reasons"`
	// Refused are why none would be admitted again.
	Refused []string `json:"refused,omitempty"`
	// RefusedMarbles are those that would not be admitted again by what they ran at their last activation.
	RefusedMarbles []RefusedMarble `json:"refusedMarbles,omitempty"`
}

// RefusedMarble is a Marble whose recorded claims the new package refuses.
type RefusedMarble struct {
	UUID    string   `json:"uuid"`
	Reasons []string `json:"reasons"`
}

// OnRunning says what the update means for running Marbles; arguments as for [Of].
func OnRunning(current, update *manifest.Manifest, activations Activations) *Running {
	r := newReporter(current, update)
	type marble struct{ kind, uuid string }
	latest, count := map[marble]Activation{}, map[string]uint{}
	for _, a := range activations.List {
		latest[marble{a.Type, a.UUID}] = a
		count[a.Type]++
	}
	out := &Running{Since: activations.Since, Collapsed: activations.Collapsed, Types: []RunningType{}}
	types := map[string][]Activation{}
	for _, a := range latest {
		if a.Time.Before(activations.Since) {
			out.Older++
			continue
		}
		out.Marbles++
		types[a.Type] = append(types[a.Type], a)
	}
	for _, name := range sorted(types) {
		out.Types = append(out.Types, r.running(name, types[name], count[name]))
	}
	return out
}

func (r *reporter) running(name string, marbles []Activation, activated uint) RunningType {
	slices.SortFunc(marbles, func(a, b Activation) int { return strings.Compare(a.UUID, b.UUID) })
	t := RunningType{Type: name, Count: len(marbles), UUIDs: []string{}, Reasons: append([]string{}, r.reasons(name)...)}
	for _, a := range marbles {
		t.UUIDs = append(t.UUIDs, a.UUID)
	}
	marble, ok := r.next.Marbles[name]
	if !ok {
		t.Reasons, t.Refused = []string{}, []string{"the type is removed"}
		return t
	}
	if limit := marble.MaxActivations; limit > 0 && activated >= limit {
		t.Refused = append(t.Refused, fmt.Sprintf("MaxActivations is %d, and %s counted", limit, were(activated)))
	}
	policy, ok := r.next.Policy(marble.Package)
	if !ok {
		return t
	}
	for _, a := range marbles {
		if reasons := refusals(policy, a.Claims); len(reasons) > 0 {
			t.RefusedMarbles = append(t.RefusedMarbles, RefusedMarble{UUID: a.UUID, Reasons: reasons})
		}
	}
	return t
}

func were(n uint) string {
	if n == 1 {
		return "1 activation is"
	}
	return fmt.Sprintf("%d activations are", n)
}

// reasons are what a Marble of the type would miss without a restart, besides the new CA.
func (r *reporter) reasons(name string) (reasons []string) {
	old, next := r.current.Marbles[name], r.next.Marbles[name]
	if !reflect.DeepEqual(r.current.Packages[old.Package], r.next.Packages[next.Package]) {
		reasons = append(reasons, quoted("package", next.Package)+" changes")
	}
	if r.marbleChanged(name) {
		reasons = append(reasons, "its entry in Marbles changes")
	}
	var secrets, tags []string
	now, before := r.next.ReferencedSecrets(name)
	for _, secret := range union(set(now), set(before)) {
		if f := r.fateOf(secret); f != kept && f != keptOwn {
			secrets = append(secrets, secret)
		}
	}
	if len(secrets) > 0 {
		reasons = append(reasons, "secrets that it uses change: "+Names(secrets))
	}
	for _, tag := range next.TLS {
		if !reflect.DeepEqual(r.current.TLS[tag], r.next.TLS[tag]) {
			tags = append(tags, tag)
		}
	}
	if len(tags) > 0 {
		reasons = append(reasons, "its TLS tags change: "+Names(tags))
	}
	return reasons
}

// recorded are claims as an activation's record has them: all, or in a long record only what identifies the TEE.
type recorded struct {
	attest.Claims
	MRENCLAVE   *string `json:"mrenclave"`
	MRSIGNER    string  `json:"mrsigner"`
	ISVPRODID   uint16  `json:"isvprodid"`
	ISVSVN      uint16  `json:"isvsvn"`
	MRTD        *string `json:"mrtd"`
	Measurement *string `json:"measurement"`
}

// refusals are why the policy refuses recorded claims, as far as those tell; nil without claims.
func refusals(policy attest.Policy, claims json.RawMessage) []string {
	var c recorded
	if err := json.Unmarshal(claims, &c); err != nil || c.TEE == "" {
		return nil
	}
	short := true
	switch {
	case c.MRENCLAVE != nil:
		c.SGX = &attest.SGXClaims{MRENCLAVE: *c.MRENCLAVE, MRSIGNER: c.MRSIGNER, ISVPRODID: c.ISVPRODID, ISVSVN: c.ISVSVN}
	case c.MRTD != nil:
		c.TDX = &attest.TDXClaims{MRTD: *c.MRTD}
	case c.Measurement != nil:
		c.SNP = &attest.SNPClaims{Measurement: *c.Measurement}
	case c.SGX == nil && c.TDX == nil && c.SNP == nil:
		return nil
	default:
		short = false
	}
	if short { // it does not tell the dates and advisories by which the status was accepted
		c.TCBStatus, policy = attest.UpToDate, identityOnly(policy)
	}
	var texts []string
	for _, reason := range policy.Check(&c.Claims).Reasons {
		texts = append(texts, reason.Text)
	}
	return texts
}

// identityOnly is the part of a policy that short claims can be held against.
func identityOnly(p attest.Policy) attest.Policy {
	out := attest.Policy{Debug: p.Debug, SGX: p.SGX, Machines: p.Machines}
	if p.TDX != nil {
		out.TDX = &attest.TDXPolicy{MRTD: p.TDX.MRTD}
	}
	if p.SNP != nil {
		out.SNP = &attest.SNPPolicy{Measurement: p.SNP.Measurement}
	}
	return out
}
