// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package immutable

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Property: a Map behaves like a built-in map, and no operation changes an older Map.
func TestMapBehavesLikeBuiltin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Map[int]
		model := map[string]int{}
		type version struct {
			m     Map[int]
			model map[string]int
		}
		var history []version
		t.Repeat(map[string]func(*rapid.T){
			"with": func(t *rapid.T) {
				k, v := strconv.Itoa(rapid.IntRange(0, 200).Draw(t, "k")), rapid.Int().Draw(t, "v")
				m, model[k] = m.With(k, v), v
			},
			"without": func(t *rapid.T) {
				k := strconv.Itoa(rapid.IntRange(0, 200).Draw(t, "k"))
				m = m.Without(k)
				delete(model, k)
			},
			"remember": func(*rapid.T) { history = append(history, version{m, maps.Clone(model)}) },
			"": func(t *rapid.T) {
				if m.Len() != len(model) {
					t.Fatalf("Len = %d, want %d", m.Len(), len(model))
				}
			},
		})
		history = append(history, version{m, model})
		for _, v := range history {
			if d := cmp.Diff(v.model, v.m.Plain()); d != "" {
				t.Fatal(d)
			}
			for k, want := range v.model {
				if got, ok := v.m.Load(k); !ok || got != want {
					t.Fatalf("Load(%s) = %d, %v; want %d", k, got, ok, want)
				}
			}
		}
	})
}

// Entries with the same hash share one leaf and stay apart.
func TestEqualHashes(t *testing.T) {
	var root *node[int]
	for i := range 5 {
		root, _ = root.with(entry[int]{hash: 42, key: fmt.Sprint(i), value: i}, 0)
	}
	root = root.without(42, "3", 0)
	var got []string
	root.each(func(k string, _ int) bool { got = append(got, k); return true })
	if want := []string{"0", "1", "2", "4"}; !slices.Equal(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
}

func TestSortedStopsEarly(t *testing.T) {
	m := From(map[string]int{"b": 2, "a": 1, "c": 3})
	var got []string
	for k := range m.Sorted() {
		got = append(got, k)
		if k == "b" {
			break
		}
	}
	if want := []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
}

func BenchmarkWith(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var m Map[int]
			for i := range n {
				m = m.With(strconv.Itoa(i), i)
			}
			for b.Loop() {
				m = m.With("0", 1)
			}
		})
	}
}
