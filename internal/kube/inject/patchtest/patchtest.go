// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package patchtest applies JSON patches (RFC 6902) in tests, as the API server does: operations add, replace, remove
// and test. Whatever RFC 6902 calls an error is one.
package patchtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Op is an operation of a patch.
type Op struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// Apply returns the patched document.
func Apply(document, patch []byte) ([]byte, error) {
	var root any
	if err := json.Unmarshal(document, &root); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	var ops []Op
	if err := json.Unmarshal(patch, &ops); err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	for i, op := range ops {
		var value any
		if op.Op != "remove" {
			if err := json.Unmarshal(op.Value, &value); err != nil {
				return nil, fmt.Errorf("operation %d: value: %w", i, err)
			}
		}
		if !strings.HasPrefix(op.Path, "/") {
			return nil, fmt.Errorf("operation %d: path %q", i, op.Path)
		}
		var err error
		if root, err = change(root, strings.Split(op.Path[1:], "/"), op.Op, value); err != nil {
			return nil, fmt.Errorf("operation %d, %s %s: %w", i, op.Op, op.Path, err)
		}
	}
	return json.Marshal(root)
}

// change returns node with the operation applied at path below it.
func change(node any, path []string, op string, value any) (any, error) {
	token := strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
	switch n := node.(type) {
	case map[string]any:
		return changeObject(n, token, path[1:], op, value)
	case []any:
		return changeArray(n, token, path[1:], op, value)
	}
	return nil, fmt.Errorf("nothing at %q", token)
}

func changeObject(n map[string]any, token string, rest []string, op string, value any) (any, error) {
	child, exists := n[token]
	if len(rest) == 0 && op == "add" {
		n[token] = value
		return n, nil
	}
	if !exists {
		return nil, fmt.Errorf("no member %q", token)
	}
	if len(rest) > 0 {
		child, err := change(child, rest, op, value)
		n[token] = child
		return n, err
	}
	switch op {
	case "replace":
		n[token] = value
	case "remove":
		delete(n, token)
	case "test":
		return n, equal(child, value)
	default:
		return nil, fmt.Errorf("unknown operation")
	}
	return n, nil
}

func changeArray(n []any, token string, rest []string, op string, value any) (any, error) {
	adding := len(rest) == 0 && op == "add"
	if adding && token == "-" {
		return append(n, value), nil
	}
	i, err := strconv.Atoi(token)
	if err != nil || i < 0 || i > len(n) || (i == len(n) && !adding) {
		return nil, fmt.Errorf("no index %q in an array of %d", token, len(n))
	}
	if adding {
		return slices.Insert(n, i, value), nil
	}
	if len(rest) > 0 {
		child, err := change(n[i], rest, op, value)
		n[i] = child
		return n, err
	}
	switch op {
	case "replace":
		n[i] = value
	case "remove":
		return slices.Delete(n, i, i+1), nil
	case "test":
		return n, equal(n[i], value)
	default:
		return nil, fmt.Errorf("unknown operation")
	}
	return n, nil
}

func equal(got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("test failed")
	}
	return nil
}
