// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"maps"
	"slices"
	"strings"
)

// Op is an operation of a JSON patch (RFC 6902). All of ours are additions; adding a member that exists replaces it.
type Op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

type patch []Op

func (p *patch) add(path string, value any) { *p = append(*p, Op{"add", path, value}) }

// appendTo appends items to the list at path that has so many items already. An absent, null or empty list is written
// whole, because there is no end of an absent list to append to.
func appendTo[T any](p *patch, path string, already int, items []T) {
	switch {
	case len(items) == 0:
	case already == 0:
		p.add(path, items)
	default:
		for _, item := range items {
			p.add(path+"/-", item)
		}
	}
}

// setIn sets members of the object at path, which is written whole if it has none yet.
func setIn(p *patch, path string, already int, members map[string]any) {
	switch {
	case len(members) == 0:
	case already == 0:
		p.add(path, members)
	default:
		for _, key := range slices.Sorted(maps.Keys(members)) {
			p.add(path+"/"+escape(key), members[key])
		}
	}
}

// escape makes a key part of a JSON pointer (RFC 6901 §3).
func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }
