// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// history is what all clients saw.
type history struct {
	started time.Time
	sync.Mutex
	secretOps, counterOps []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.started)) }

// add appends an operation that ends now.
func (h *history) add(ops *[]porcupine.Operation, begun int64, input, output any) {
	h.addAt(ops, begun, h.now(), input, output)
}

func (h *history) addAt(ops *[]porcupine.Operation, begun, ended int64, input, output any) {
	h.Lock()
	defer h.Unlock()
	*ops = append(*ops, porcupine.Operation{Input: input, Call: begun, Output: output, Return: ended})
}

// access is an operation on a pair of secrets. The output of a read is the value.
type access struct {
	key   int
	write bool
	value string
}

// secretModel is one register per pair, empty in the beginning.
func secretModel() porcupine.Model {
	return porcupine.Model{
		Partition: partitionBy(func(input any) any { return input.(access).key }),
		Init:      func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			if in := input.(access); in.write {
				return true, in.value
			}
			return output == state, state
		},
	}
}

// raise is an operation on a Marble's counter. The output is the value before.
type raise struct {
	marble string
	value  uint64
}

// counterModel is one counter per Marble, 0 in the beginning.
func counterModel() porcupine.Model {
	return porcupine.Model{
		Partition: partitionBy(func(input any) any { return input.(raise).marble }),
		Init:      func() any { return uint64(0) },
		Step: func(state, input, output any) (bool, any) {
			return output == state, max(state.(uint64), input.(raise).value)
		},
	}
}

func partitionBy(key func(input any) any) func([]porcupine.Operation) [][]porcupine.Operation {
	return func(ops []porcupine.Operation) (parts [][]porcupine.Operation) {
		index := map[any]int{}
		for _, op := range ops {
			k := key(op.Input)
			i, ok := index[k]
			if !ok {
				i = len(parts)
				index[k], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	}
}

// linearizable tells whether there is an order of the operations, each within its time, that the model allows.
func linearizable(model porcupine.Model, ops []porcupine.Operation) error {
	if result := porcupine.CheckOperationsTimeout(model, ops, 2*time.Minute); result != porcupine.Ok {
		return fmt.Errorf("the history of %d operations is not linearizable: %s", len(ops), result)
	}
	return nil
}

func (h *history) check(t *testing.T) {
	t.Helper()
	if err := linearizable(secretModel(), h.secretOps); err != nil {
		t.Errorf("secrets: %v", err)
	}
	if err := linearizable(counterModel(), h.counterOps); err != nil {
		t.Errorf("counters: %v", err)
	}
}

// The checker finds what it is there for: a stale read, a lost write, a lost raise and one that counted twice.
func TestCheckerFindsAnomalies(t *testing.T) {
	at := func(begun, ended int64, input, output any) porcupine.Operation {
		return porcupine.Operation{Input: input, Call: begun, Output: output, Return: ended}
	}
	write := func(v string) access { return access{write: true, value: v} }
	for name, tt := range map[string]struct {
		model porcupine.Model
		ops   []porcupine.Operation
		ok    bool
	}{
		"concurrent read of the old value": {secretModel(), []porcupine.Operation{
			at(0, 10, write("x"), nil), at(5, 6, access{}, "")}, true},
		"stale read": {secretModel(), []porcupine.Operation{
			at(0, 1, write("x"), nil), at(2, 3, access{}, "")}, false},
		"value goes back": {secretModel(), []porcupine.Operation{
			at(0, 10, write("x"), nil), at(1, 2, access{}, "x"), at(3, 4, access{}, "")}, false},
		"another pair": {secretModel(), []porcupine.Operation{
			at(0, 1, write("x"), nil), at(2, 3, access{key: 1}, "")}, true},
		"raise": {counterModel(), []porcupine.Operation{
			at(0, 1, raise{"m", 5}, uint64(0)), at(2, 3, raise{"m", 3}, uint64(5)), at(4, 5, raise{"m", 9}, uint64(5))}, true},
		"lost raise": {counterModel(), []porcupine.Operation{
			at(0, 1, raise{"m", 5}, uint64(0)), at(2, 3, raise{"m", 6}, uint64(0))}, false},
		"two raised the same": {counterModel(), []porcupine.Operation{
			at(0, 9, raise{"m", 5}, uint64(0)), at(0, 9, raise{"m", 6}, uint64(0))}, false},
	} {
		if err := linearizable(tt.model, tt.ops); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
