// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package console_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/marblerun/marblerun/internal/cli/console"
)

func TestFilter(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"plain":           {"a\tb\nÄ€😀", "a\tb\nÄ€😀"},
		"own colors":      {console.Paint(true, console.Red, "Error:"), "\x1b[31mError:\x1b[0m"},
		"other sequences": {"\x1b[2J\x1b]0;title\x07\x1b[8m", `\x1b[2J\x1b]0;title\x07\x1b[8m`},
		"return":          {"good\rbad\b\x7f\x00", `good\x0dbad\x08\x7f\x00`},
		"C1":              {"\u009b2J", `\x9b2J`},
		"bytes":           {"\x9b\xff", `\x9b\xff`},
		"direction":       {"a\u202eb\u2066\u200b\u2028", `a\u202eb\u2066\u200b\u2028`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var whole, split bytes.Buffer
			if _, err := io.WriteString(console.Filter(&whole), test.in); err != nil {
				t.Fatal(err)
			}
			if whole.String() != test.want {
				t.Errorf("got %q, want %q", whole.String(), test.want)
			}
			if strings.Contains(test.in, "\x1b[3") {
				return // Paint writes its sequences whole
			}
			w := console.Filter(&split)
			for i := range len(test.in) {
				if n, err := w.Write([]byte(test.in[i : i+1])); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			}
			if split.String() != test.want {
				t.Errorf("byte by byte: got %q, want %q", split.String(), test.want)
			}
		})
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestFilterError(t *testing.T) {
	if n, err := console.Filter(broken{}).Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\x1b[2J\xc2"), []byte("\x9b\xe2\x80\xae"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var out bytes.Buffer
		w := console.Filter(&out)
		for _, part := range [][]byte{first, second} {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		text := strings.NewReplacer("\x1b[31m", "", "\x1b[33m", "", "\x1b[36m", "", "\x1b[0m", "").Replace(out.String())
		for _, r := range text {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				t.Errorf("%q passed", r)
			}
		}
	})
}
