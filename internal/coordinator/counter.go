// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"fmt"
)

// maxCounterName bounds a monotonic counter's name, in bytes.
const maxCounterName = 1024

// RaiseCounter sets a Marble's monotonic counter to value if that is higher, and returns the value before
// (client-api.md §12). The raise is durable before it is answered.
func (c *Coordinator) RaiseCounter(ctx context.Context, m Marble, name string, value uint64) (uint64, error) {
	k, err := c.running()
	if err != nil {
		return 0, err
	}
	if len(name) > maxCounterName {
		return 0, refuse(Invalid, "counter name has %d bytes, at most %d are allowed", len(name), maxCounterName)
	}
	key := counterKey(m, name)
	var before uint64
	_, err = k.submit(ctx, fmt.Sprintf("marble %s", m.UUID), func(s *State) (outcome, error) {
		if err := s.checkMarbleBan(m); err != nil { // the request may have taken its time
			return outcome{}, err
		}
		before = s.counters.Value(key)
		if value <= before {
			return outcome{}, nil
		}
		return outcome{events: []event{&counterRaised{Key: key, Value: value}}}, nil
	})
	if err != nil {
		return 0, err
	}
	return before, nil
}

// counterKey joins type, UUID and name so that different triples never collide.
func counterKey(m Marble, name string) string {
	key, err := json.Marshal([3]string{m.Type, m.UUID, name})
	if err != nil {
		// Strings always marshal.
		return ""
	}
	return string(key)
}
