// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"fmt"
	"time"
)

// recordVersion is the format of records and snapshots. Programs read all versions up to their own.
const recordVersion = 1

// record is what one verb writes: all its events, or nothing.
type record struct {
	Version int       `json:"v"`
	Time    time.Time `json:"t"`
	// Actor is the user, or "" where there is none. Request is the request id.
	Actor   string `json:"actor,omitempty"`
	Request string `json:"req,omitempty"`

	Events []event `json:"-"`
}

// event is a fact. apply changes the given draft, which no one else sees; it never fails and reads nothing but its
// arguments.
type event interface {
	kind() string
	// resolve derives unexported fields from the decoded ones; it is called once, before apply.
	resolve() error
	apply(draft *State, at moment)
}

// moment is where and when an event stands.
type moment struct {
	position uint64
	time     time.Time
	actor    string
}

// newEvent returns an empty event of the given kind; nil if this program does not know it.
func newEvent(kind string) event {
	for _, e := range []event{
		&manifestSet{}, &marbleActivated{}, &secretsWritten{}, &packagesUpdated{}, &updateProposed{},
		&updateAcknowledged{}, &updateApplied{}, &updateCanceled{}, &counterRaised{}, &recovered{},
		&secretsRotated{}, &marbleBanned{}, &marbleBanLifted{},
	} {
		if e.kind() == kind {
			return e
		}
	}
	return nil
}

type wireEvent struct {
	Kind string          `json:"k"`
	Data json.RawMessage `json:"d"`
}

type wireRecord struct {
	*record
	Events []wireEvent `json:"e"`
}

func (r *record) encode() ([]byte, error) {
	w := wireRecord{record: r, Events: make([]wireEvent, len(r.Events))}
	for i, e := range r.Events {
		data, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encoding event %s: %w", e.kind(), err)
		}
		w.Events[i] = wireEvent{e.kind(), data}
	}
	return json.Marshal(w)
}

func decodeRecord(payload []byte) (*record, error) {
	w := wireRecord{record: &record{}}
	if err := json.Unmarshal(payload, &w); err != nil {
		return nil, fmt.Errorf("decoding record: %w", err)
	}
	if w.Version > recordVersion {
		return nil, fmt.Errorf("record has format version %d, this program knows up to %d: use a newer program",
			w.Version, recordVersion)
	}
	r := w.record
	for _, we := range w.Events {
		e := newEvent(we.Kind)
		if e == nil {
			return nil, fmt.Errorf("unknown event %q: use a newer program", we.Kind)
		}
		if err := json.Unmarshal(we.Data, e); err != nil {
			return nil, fmt.Errorf("decoding event %s: %w", we.Kind, err)
		}
		r.Events = append(r.Events, e)
	}
	return r, nil
}

// resolve prepares the events for apply.
func (r *record) resolve() error {
	for _, e := range r.Events {
		if err := e.resolve(); err != nil {
			return fmt.Errorf("event %s: %w", e.kind(), err)
		}
	}
	return nil
}

// apply returns the state after r, which stands at the given position.
func (s *State) apply(r *record, position uint64) *State {
	draft := *s
	at := moment{position: position, time: r.Time, actor: r.Actor}
	for _, e := range r.Events {
		e.apply(&draft, at)
	}
	draft.position, draft.time = position, r.Time
	return &draft
}
