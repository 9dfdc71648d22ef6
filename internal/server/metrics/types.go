// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"sync/atomic"
)

// maxTypes bounds the Marble types that have a label of their own.
const maxTypes = 1000

// marbleTypes knows which Marble types the current manifest defines.
type marbleTypes struct {
	manifest func() (raw []byte, fingerprint string)
	known    atomic.Pointer[known]
}

type known struct {
	fingerprint string
	types       map[string]json.RawMessage
}

// label returns the type if the manifest has it, "unknown" if not, and "other" if there are too many types.
func (t *marbleTypes) label(marbleType string) string {
	raw, fingerprint := t.manifest()
	k := t.known.Load()
	if k == nil || k.fingerprint != fingerprint {
		k = &known{fingerprint: fingerprint, types: typesOf(raw)}
		t.known.Store(k)
	}
	if _, ok := k.types[marbleType]; !ok {
		return "unknown"
	}
	if len(k.types) > maxTypes {
		return "other"
	}
	return marbleType
}

// typesOf reads the names only. What does not parse has none; a set manifest parses.
func typesOf(raw []byte) map[string]json.RawMessage {
	var m struct{ Marbles map[string]json.RawMessage }
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	for name := range m.Marbles {
		m.Marbles[name] = nil // do not keep the manifest alive
	}
	return m.Marbles
}
