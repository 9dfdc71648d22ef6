// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// page writes ' for `, so that a page fits into a Go string.
func page(s string) string { return strings.ReplaceAll(s, "'", "`") }

func TestParse(t *testing.T) {
	got, err := Parse(page(`# A page
'''bash
one
  two
'''
It prints
'''output

  a   b …
c
'''
* In a list:

    '''bash no-e2e="needs AKS" needs="nginx openssl"
    three \
        four
    '''

''''yaml
'''
a: b
'''
''''
'''
text
'''
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{Line: 2, Lang: "bash", Text: "one\n  two\n", Output: []string{"a   b …", "c"}},
		{Line: 14, Lang: "bash", NoE2E: "needs AKS", Needs: []string{"nginx", "openssl"}, Text: "three \\\n    four\n"},
		{Line: 19, Lang: "yaml", Text: page("'''\na: b\n'''\n")},
		{Line: 24, Text: "text\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A mistake in a page must not take a block out of the test.
func TestParseMistakes(t *testing.T) {
	for name, text := range map[string]string{
		"not closed":         "'''bash\nls\n",
		"unknown attribute":  "'''bash skip=\"yes\"\n'''\n",
		"no value":           "'''bash no-e2e\n'''\n",
		"no reason":          "'''bash no-e2e=\"\"\n'''\n",
		"unquoted":           "'''bash needs=nginx\n'''\n",
		"attribute of yaml":  "'''yaml no-e2e=\"x\"\n'''\n",
		"output of nothing":  "'''output\na\n'''\n",
		"output of yaml":     "'''yaml\n'''\n'''output\na\n'''\n",
		"two outputs":        "'''bash\n'''\n'''output\na\n'''\n'''output\nb\n'''\n",
		"an empty output":    "'''bash\n'''\n'''output\n\n'''\n",
		"closed by too few":  "''''bash\n'''\n",
		"closed by too many": "'''bash\n''''\n",
	} {
		t.Run(name, func(t *testing.T) {
			if blocks, err := Parse(page(text)); err == nil {
				t.Errorf("taken: %+v", blocks)
			} else if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("the error names no line: %v", err)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	const printed = "NAME    READY  AGE\nweb-1   1/1    3s\nweb-2   0/1    3s\n"
	for _, c := range []struct {
		output  string
		missing string
	}{
		{"NAME READY", ""},
		{"web-1 1/1", ""},
		{"web-… 1/1 …s", ""},
		{"…\nweb-2…3s", ""},
		{"web-1\nweb-2", ""},
		{"web-2\nweb-1", "web-1"},  // the order counts
		{"web-1\nweb-1", "web-1"},  // a line is used once
		{"web-1 0/1", "web-1 0/1"}, // a line is one line
		{"web-1.*3s", "web-1.*3s"}, // no regular expression
		{"web-11/1", "web-11/1"},   // white space is white space
		{"web-…0/1 …9s", "web-…0/1 …9s"},
	} {
		line, missing := Block{Output: strings.Split(c.output, "\n")}.Missing(printed)
		if line != c.missing || missing != (c.missing != "") {
			t.Errorf("%q: missing %q, want %q", c.output, line, c.missing)
		}
	}
}

func TestInline(t *testing.T) {
	got := Inline(page("use 'kubectl get x', 'helm y' or 'kubectl z'\n'''bash\nkubectl no\n'''\n"), "kubectl ")
	if diff := cmp.Diff([]string{"kubectl get x", "kubectl z"}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(page("'''bash needs=\"a\"\nls\n'''\n'''output\n…a b\n'''\n"))
	f.Add(page("  '''\n'''"))
	f.Fuzz(func(t *testing.T, text string) {
		blocks, err := Parse(text)
		if err != nil {
			return
		}
		for _, b := range blocks {
			if line := strings.Split(text, "\n")[b.Line-1]; !strings.Contains(line, "```") {
				t.Errorf("line %d is no fence: %q", b.Line, line)
			}
			if _, missing := b.Missing(strings.ReplaceAll(strings.Join(b.Output, "\n"), "…", "x")); missing {
				t.Errorf("%q does not match itself", b.Output)
			}
		}
	})
}
