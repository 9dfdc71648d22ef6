// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package coordinatortest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/coordinatortest"
)

// A test of a Marble's program against a real Coordinator.
func Example() {
	test := func(t *testing.T) {
		c := coordinatortest.New(t, coordinatortest.Options{Manifest: []byte(`{
			"Packages": {"p": {"UniqueID": "` + strings.Repeat("00", 32) + `"}},
			"Marbles":  {"web": {"Package": "p", "Parameters": {"Env": {"PORT": "8080", "KEY": "{{ hex .Secrets.key }}"}}}},
			"Secrets":  {"key": {"Type": "symmetric-key", "Size": 128, "Shared": true}}
		}`)})
		// Either start the program with c.Environment("web"), or look at what it would be given.
		env := c.Activate("web").Env
		fmt.Println(string(env["PORT"]), len(env["KEY"]))
	}
	// In your own code this is a test function.
	testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "web",
		F: test}})
	// Output: 8080 32
}
