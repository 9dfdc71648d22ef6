// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package coordinatortest_test

import (
	"testing"

	"github.com/marblerun/marblerun/api/coordinatortest"
)

const exampleManifest = `{
	"Packages": {"p": {"UniqueID": "0000000000000000000000000000000000000000000000000000000000000000"}},
	"Marbles":  {"web": {"Package": "p", "Parameters": {"Env": {"PORT": "8080", "KEY": "{{ hex .Secrets.key }}"}}}},
	"Secrets":  {"key": {"Type": "symmetric-key", "Size": 128, "Shared": true}}
}`

// A test of a Marble's program against a real Coordinator.
func Example() {
	_ = testWeb // in your own code it is a function TestWeb
}

func TestExample(t *testing.T) { testWeb(t) }

func testWeb(t *testing.T) {
	c := coordinatortest.New(t, coordinatortest.Options{Manifest: []byte(exampleManifest)})
	// Either start the program with c.Environment("web"), or look at what it would be given.
	env := c.Activate("web").Env
	if string(env["PORT"]) != "8080" || len(env["KEY"]) != 32 {
		t.Errorf("PORT %s, KEY of %d digits", env["PORT"], len(env["KEY"]))
	}
}
