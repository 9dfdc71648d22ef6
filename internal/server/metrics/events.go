// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Bounds of the event log.
const (
	maxEvents     = 1000
	maxEventBytes = 8 << 20 // of evidence, Marble types and UUIDs
)

// event is one entry of GET /events.
type event struct {
	Time       time.Time  `json:"time"`
	Activation activation `json:"activation"`
}

type activation struct {
	MarbleType string `json:"marbleType"`
	UUID       string `json:"uuid"`
	Quote      []byte `json:"quote"`
}

func (e event) size() int {
	return len(e.Activation.MarbleType) + len(e.Activation.UUID) + len(e.Activation.Quote)
}

// events is the log of the most recent successful activations, in memory, lost at a restart.
type events struct {
	mu   sync.Mutex
	log  []event // oldest first
	size int
}

func (l *events) add(marbleType, uuid string, evidence []byte) {
	if len(evidence) == 0 {
		evidence = nil // null in the log
	}
	e := event{Time: time.Now().UTC(), Activation: activation{marbleType, uuid, evidence}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, e)
	l.size += e.size()
	for len(l.log) > maxEvents || l.size > maxEventBytes {
		l.size -= l.log[0].size()
		l.log[0] = event{} // let go of the evidence
		l.log = l.log[1:]
	}
}

// write writes the log as a JSON array.
func (l *events) write(w io.Writer) error {
	l.mu.Lock()
	log := append([]event{}, l.log...)
	l.mu.Unlock()
	return json.NewEncoder(w).Encode(log)
}
