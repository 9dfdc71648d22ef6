// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marblerun/marblerun/manifest"
)

// fate is what an update does to a value.
type fate string

const (
	kept    fate = "the value before"
	fresh   fate = "a new value"
	emptied fate = "empty"
	deleted fate = "deleted"
	// untouched is .Previous as it was.
	untouched fate = "the previous value before"
)

// TestUpdateValues: contract manifest §13.4 and §13.5, by row. Each secret has the value "before" and the previous
// value "older".
func TestUpdateValues(t *testing.T) {
	const (
		sym      = `{"Type":"symmetric-key","Size":128,"Shared":true}`
		sym256   = `{"Type":"symmetric-key","Size":256,"Shared":true}`
		ownSym   = `{"Type":"symmetric-key","Size":128}`
		userSym  = `{"Type":"symmetric-key","Size":128,"UserDefined":true}`
		userSym2 = `{"Type":"symmetric-key","Size":256,"UserDefined":true}`
		cert     = `{"Type":"cert-ecdsa","Size":256,"Shared":true}`
		certX    = `{"Type":"cert-ecdsa","Size":256,"Shared":true,"Cert":{"DNSNames":["x"]}}`
		cert365  = `{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":365}`
		cert3    = `{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":3}`
		userCert = `{"Type":"cert-rsa","UserDefined":true}`
		plain    = `{"Type":"plain","UserDefined":true}`
	)
	for _, c := range []struct {
		name     string
		old, new string // definition; "" = none
		rotate   bool
		value    fate
		previous fate
	}{
		{"shared symmetric key", sym, sym, false, kept, untouched},
		{"shared symmetric key, rotation", sym, sym, true, fresh, kept},
		{"shared symmetric key, redefined", sym, sym256, false, fresh, fresh},
		{"shared symmetric key, redefined, rotation", sym, sym256, true, fresh, fresh},
		{"shared symmetric key, added", "", sym, false, fresh, fresh},
		{"shared symmetric key, removed", sym, "", false, deleted, deleted},
		{"shared symmetric key, now per Marble", sym, ownSym, false, deleted, deleted},
		{"shared certificate", cert, cert, false, fresh, kept},
		{"shared certificate, rotation", cert, cert, true, fresh, kept},
		{"shared certificate, Cert changed", cert, certX, false, fresh, kept},
		{"shared certificate, default ValidFor spelled out (Q4)", cert, cert365, false, fresh, kept},
		{"shared certificate, other ValidFor", cert, cert3, false, fresh, fresh},
		{"user-defined plain", plain, plain, false, kept, untouched},
		{"user-defined plain, rotation", plain, plain, true, kept, kept},
		{"user-defined certificate", userCert, userCert, false, kept, kept},
		{"user-defined, redefined", userSym, userSym2, false, emptied, emptied},
		{"user-defined, added", "", plain, false, emptied, emptied},
		{"user-defined, removed", plain, "", false, deleted, deleted},
		{"generated, now user-defined", sym, userSym, false, emptied, emptied},
		{"user-defined, now generated", userSym, sym, false, fresh, fresh},
		{"per Marble", ownSym, ownSym, true, deleted, deleted},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := Update{Old: withSecret(t, c.old), New: withSecret(t, c.new), Rotate: c.rotate, CA: newTestCA(t),
				Now: testNow(), Rand: rand.Reader, Current: map[string]Value{}, Previous: map[string]Value{}}
			if def, ok := u.Old.Secrets["s"]; ok && (def.Shared || def.UserDefined) {
				u.Current["s"], u.Previous["s"] = stored(def, "before"), stored(def, "older")
			}
			current, previous, err := UpdateValues(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			if got := fateOf(current, "before", kept); got != c.value {
				t.Errorf("value: %s, want %s", got, c.value)
			}
			got := fateOf(previous, "before", kept)
			if string(previous["s"].Private) == "older" {
				got = untouched
			}
			if got == fresh && !bytes.Equal(previous["s"].Private, current["s"].Private) {
				t.Error(".Previous is new, but not the current value")
			}
			if got != c.previous {
				t.Errorf(".Previous: %s, want %s", got, c.previous)
			}
		})
	}
}

func withSecret(t testing.TB, def string) *manifest.Manifest {
	t.Helper()
	if def == "" {
		return &manifest.Manifest{}
	}
	return parse(t, fmt.Sprintf(`{"Secrets":{"s":%s}}`, def))
}

func stored(def manifest.Secret, private string) Value {
	v := Empty(def)
	v.Private = []byte(private)
	return v
}

func fateOf(values map[string]Value, private string, same fate) fate {
	v, ok := values["s"]
	switch {
	case !ok:
		return deleted
	case !v.uploaded():
		return emptied
	case string(v.Private) == private:
		return same
	}
	return fresh
}

// TestReissueFromNewTemplate: a full update re-issues from the new template, with a fresh period, under the new CA.
func TestReissueFromNewTemplate(t *testing.T) {
	old := withSecret(t, `{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":10}`)
	current, err := GenerateShared(t.Context(), old, newTestCA(t), nil, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, later := newTestCA(t), testNow().AddDate(0, 0, 5)
	values, previous, err := UpdateValues(t.Context(), Update{
		Old: old, New: withSecret(t, `{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":10,
			"Cert":{"DNSNames":["new"]}}`),
		Current: current, Previous: current, CA: ca, Now: later, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	cert := parseCert(t, values["s"].Cert)
	if cert.Subject.CommonName != "new" || !cert.NotAfter.Equal(later.AddDate(0, 0, 10)) ||
		cert.CheckSignatureFrom(ca.MarbleRoot) != nil {
		t.Errorf("%v until %v", cert.Subject, cert.NotAfter)
	}
	if diff := cmp.Diff(current["s"], previous["s"]); diff != "" {
		t.Error(".Previous is not the certificate before:", diff)
	}
}

// TestReissueShared: contract manifest §13.4, the column "Package update".
func TestReissueShared(t *testing.T) {
	m := parse(t, `{"Secrets":{
		"cert":{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":10},
		"fixed":{"Type":"cert-ed25519","Shared":true,"Cert":{"NotAfter":"2030-01-02T03:04:05Z"}},
		"sym":{"Type":"symmetric-key","Size":128,"Shared":true}, "own":{"Type":"cert-ecdsa","Size":256},
		"user":{"Type":"cert-rsa","UserDefined":true}}}`)
	current, err := GenerateShared(t.Context(), m, newTestCA(t), nil, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, later := newTestCA(t), testNow().Add(48*time.Hour)
	got, err := ReissueShared(t.Context(), m, ca, current, later, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Errorf("%d secrets re-issued, want the 2 shared certificates", len(got))
	}
	for name, v := range got {
		before, after := parseCert(t, current[name].Cert), parseCert(t, v.Cert)
		if !after.NotAfter.Equal(before.NotAfter) || !after.NotBefore.Equal(later) {
			t.Errorf("%s: valid %v to %v, want the old end %v", name, after.NotBefore, after.NotAfter, before.NotAfter)
		}
		if bytes.Equal(v.Private, current[name].Private) || after.CheckSignatureFrom(ca.MarbleRoot) != nil {
			t.Errorf("%s: not re-keyed under the new CA", name)
		}
		if v.ValidFor != current[name].ValidFor {
			t.Errorf("%s: ValidFor changed from %d to %d", name, current[name].ValidFor, v.ValidFor)
		}
	}
	if _, err := ReissueShared(t.Context(), m, ca, nil, later, rand.Reader); err == nil {
		t.Error("re-issued without the stored certificates")
	}
}

// TestUpdateToItself: an update that changes nothing, without rotation, keeps all values but generated certificates, as
// often as it is repeated.
func TestUpdateToItself(t *testing.T) {
	ca := newTestCA(t)
	def := rapid.SampledFrom([]string{
		`{"Type":"symmetric-key","Size":64,"Shared":true}`, `{"Type":"symmetric-key","Size":64,"UserDefined":true}`,
		`{"Type":"plain","UserDefined":true,"Shared":true}`, `{"Type":"symmetric-key","Size":64}`,
		`{"Type":"cert-rsa","UserDefined":true}`,
	})
	rapid.Check(t, func(rt *rapid.T) {
		m := withSecret(t, def.Draw(rt, "definition"))
		start := Update{Old: &manifest.Manifest{}, New: m, CA: ca, Now: testNow(), Rand: rand.Reader}
		current, previous, err := UpdateValues(t.Context(), start)
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(rt, "times") {
			next := Update{Old: m, New: m, Current: current, Previous: previous, CA: ca, Now: testNow(), Rand: rand.Reader}
			c, p, err := UpdateValues(t.Context(), next)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(current, c) + cmp.Diff(previous, p); diff != "" {
				rt.Fatal(diff)
			}
		}
	})
}
