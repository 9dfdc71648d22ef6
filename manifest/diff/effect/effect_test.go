// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff"
	"github.com/marblerun/marblerun/manifest/diff/effect"
)

var update = flag.Bool("update", false, "write golden files anew")

func parse(t testing.TB, doc []byte) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// section is one file of a golden archive; nil if it is not there.
func section(a *txtar.Archive, name string) *txtar.File {
	for i := range a.Files {
		if a.Files[i].Name == name {
			return &a.Files[i]
		}
	}
	return nil
}

// TestGolden checks pairs of manifests beside what is said of them, in testdata. Certificates and keys in them are mere
// words: this package does not look into them.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			old, next := parse(t, section(a, "old.json").Data), parse(t, section(a, "new.json").Data)
			report := effect.Of(old, next)
			if f := section(a, "activations.json"); f != nil {
				var activations effect.Activations
				if err := json.Unmarshal(f.Data, &activations); err != nil {
					t.Fatal(err)
				}
				report.Running = effect.OnRunning(old, next, activations)
			}
			want := section(a, "text")
			if *update {
				want.Data = []byte(report.Text())
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(want.Data), report.Text()); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestJSON: the names of fields are what scripts rely on.
func TestJSON(t *testing.T) {
	old := parse(t, []byte(`{"Packages":{"p":{"SecurityVersion":2}},"Marbles":{"m":{"Package":"p"}},
		"Users":{"eve":{"Certificate":"c","Roles":["r"]}},
		"Roles":{"r":{"ResourceType":"Packages","ResourceNames":["p"],"Actions":["updatesecurityversion"]}}}`))
	next := parse(t, []byte(`{"Packages":{"p":{"SecurityVersion":3}}}`))
	report := effect.Of(old, next)
	report.Running = effect.OnRunning(old, next, effect.Activations{
		Since: time.Unix(0, 0).UTC(), List: []effect.Activation{{Time: time.Unix(1, 0), Type: "m", UUID: "u"}},
	})
	report.Changes = report.Changes[:1]
	got, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"update":"package","needs":{"permission":"UpdateSecurityVersion","users":["eve"],"acknowledgments":1},` +
		`"changes":[{"path":"$.Packages[\"p\"].SecurityVersion","kind":"changed",` +
		`"text":"package \"p\": SecurityVersion is 3, was 2","section":"packages",` +
		`"affects":{"packages":["p"],"marbles":["m"]}}],` +
		`"running":{"since":"1970-01-01T00:00:00Z","marbles":1,"older":0,"types":[` +
		`{"type":"m","count":1,"uuids":["u"],"reasons":["package \"p\" changes"]}]}}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

// many is a running Marble type with n UUIDs.
func many(n int) effect.Activations {
	var a effect.Activations
	for i := range n {
		a.List = append(a.List, effect.Activation{Type: "m", UUID: string(rune('a' + i)), Time: time.Unix(int64(i+1), 0)})
	}
	return a
}

// Of more than 20 running Marbles only the number is said.
func TestMany(t *testing.T) {
	m := parse(t, []byte(`{"Packages":{"p":{}},"Marbles":{"m":{"Package":"p"}}}`))
	for n, want := range map[int]string{20: "20 must restart: a, b, ", 21: "21 must restart\n"} {
		report := effect.Of(m, m)
		report.Running = effect.OnRunning(m, m, many(n))
		if !strings.Contains(report.Text(), want) {
			t.Errorf("%d: %s", n, report.Text())
		}
		if got := len(report.Running.Types[0].UUIDs); got != n {
			t.Errorf("JSON has %d UUIDs of %d", got, n)
		}
	}
}

// Values of parameters are in no text, whatever happens to them.
func TestNoValues(t *testing.T) {
	const value = "5ecret-value"
	manifests := []*manifest.Manifest{}
	for _, parameters := range []string{
		`{}`, `{"Env":{"A":"` + value + `"},"Files":{"/f":"` + value + `"},"Argv":["` + value + `"]}`,
		`{"Env":{"A":"` + value + `2"},"Files":{"/f":"` + value + `2"},"Argv":["` + value + `2"]}`,
	} {
		manifests = append(manifests, parse(t,
			[]byte(`{"Packages":{"p":{}},"Marbles":{"m":{"Package":"p","Parameters":`+parameters+`}}}`)))
	}
	for i, a := range manifests {
		for j, b := range manifests {
			report := effect.Of(a, b)
			data, err := json.Marshal(report)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(report.Text()+string(data), value) {
				t.Errorf("%d to %d: %s", i, j, report.Text())
			}
			if report.Changed() != (i != j) {
				t.Errorf("%d to %d: changed is %t", i, j, report.Changed())
			}
		}
	}
}

// secretDefinition draws a secret that a manifest may define.
func secretDefinition() *rapid.Generator[manifest.Secret] {
	return rapid.Custom(func(t *rapid.T) manifest.Secret {
		s := manifest.Secret{
			Type:   rapid.SampledFrom([]string{"symmetric-key", "cert-ecdsa", "plain"}).Draw(t, "type"),
			Shared: rapid.Bool().Draw(t, "shared"), UserDefined: rapid.Bool().Draw(t, "userDefined"),
			ValidFor: rapid.SampledFrom([]uint{0, 365, 30}).Draw(t, "validFor"),
		}
		s.Size = map[string]uint{"symmetric-key": 128, "cert-ecdsa": 256}[s.Type]
		s.UserDefined = s.UserDefined || s.Type == "plain"
		return s
	})
}

// Every secret of either manifest has exactly one fate, and it is the contract's.
func TestFates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.ID[string])
		draw := func(which string) *manifest.Manifest {
			m := &manifest.Manifest{
				Secrets: map[string]manifest.Secret{}, Marbles: map[string]manifest.Marble{"m": {}},
				Config: manifest.Config{RotateRootSecret: rapid.Bool().Draw(t, "rotate")},
			}
			for _, name := range names.Draw(t, which) {
				m.Secrets[name] = secretDefinition().Draw(t, name)
			}
			return m
		}
		old, next := draw("old"), draw("new")
		got := map[string]diff.Kind{}
		for _, c := range effect.Of(old, next).Changes {
			byFate := (c.Section == effect.Secrets || c.Section == effect.Certificates) &&
				!strings.HasPrefix(c.Path, "$.Secrets[") && !strings.HasPrefix(c.Text, "keys of their own change")
			for _, name := range c.Affects.Secrets {
				if !byFate {
					continue
				}
				if _, twice := got[name]; twice {
					t.Fatalf("two fates of %s", name)
				}
				got[name] = c.Kind
			}
		}
		want := map[string]diff.Kind{}
		for name := range old.Secrets {
			want[name] = diff.Removed
		}
		for name, def := range next.Secrets {
			before, was := old.Secrets[name]
			want[name] = fate(was, before, def, next.Config.RotateRootSecret)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

// fate restates contract §13.4.
func fate(was bool, old, def manifest.Secret, rotate bool) diff.Kind {
	ownCert := def.IsCertificate() && !def.Shared && !def.UserDefined
	same := was && old.SameDefinition(def)
	switch {
	case def.UserDefined && same:
		return diff.Kept
	case def.UserDefined:
		return diff.Emptied
	case !was:
		return diff.Generated
	case same && def.IsCertificate(), ownCert && old.IsCertificate() && !old.Shared && !old.UserDefined:
		return diff.Reissued
	case same && !rotate:
		return diff.Kept
	}
	return diff.Regenerated
}

// The report does not depend on the order of maps, and its sections are in order.
func TestStable(t *testing.T) {
	a, err := txtar.ParseFile("testdata/everything.txtar")
	if err != nil {
		t.Fatal(err)
	}
	old, next := parse(t, section(a, "old.json").Data), parse(t, section(a, "new.json").Data)
	first := effect.Of(old, next)
	for range 20 {
		if again := effect.Of(old, next); !reflect.DeepEqual(first, again) {
			t.Fatal(cmp.Diff(first, again))
		}
	}
	order := []string{
		"packages", "infrastructures", "marbles", "tls", "secrets", "certificates", "users", "recovery", "settings",
	}
	var seen []string
	for _, c := range first.Changes {
		seen = append(seen, c.Section)
	}
	if got := slices.Compact(seen); !slices.Equal(got, order) {
		t.Errorf("sections %q", got)
	}
}
