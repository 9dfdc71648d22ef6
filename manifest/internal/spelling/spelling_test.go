// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package spelling_test

import (
	"strings"
	"testing"

	"github.com/marblerun/marblerun/manifest/internal/spelling"
)

func TestNearest(t *testing.T) {
	fields := []string{"UniqueID", "SignerID", "ProductID", "SecurityVersion", "Debug"}
	tests := map[string]struct {
		word string
		list []string
		want string
	}{
		"swapped letters":     {"SecruityVersion", fields, "SecurityVersion"},
		"missing letter":      {"SigerID", fields, "SignerID"},
		"case only":           {"debug", fields, "Debug"},
		"nothing like it":     {"Infrastructure", fields, ""},
		"the word itself":     {"Debug", []string{"Debug"}, ""},
		"empty":               {"", fields, ""},
		"too long to look at": {strings.Repeat("x", 41), []string{strings.Repeat("x", 40)}, ""},
		"first of equals":     {"dba", []string{"dbb", "dbc"}, "dbb"},
		"single letter":       {"x", []string{"y"}, ""},
		"single letter, case": {"x", []string{"y", "X"}, "X"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := spelling.Nearest(tc.word, tc.list); got != tc.want {
				t.Errorf("Nearest(%q) = %q, want %q", tc.word, got, tc.want)
			}
		})
	}
}

func TestNearestIgnoresHugeLists(t *testing.T) {
	list := make([]string, 201)
	for i := range list {
		list[i] = "secret"
	}
	if got := spelling.Nearest("secrt", list); got != "" {
		t.Errorf("searched a list of 201 words and found %q", got)
	}
}
