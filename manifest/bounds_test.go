// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/manifest"
)

// repeat makes the inside of a JSON object of n entries.
func repeat(n int, entry string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, entry, i)
	}
	return b.String()
}

// TestTooMuch: whatever is too much is refused and says so.
func TestTooMuch(t *testing.T) {
	tests := map[string]struct{ doc, want string }{
		"secrets":          {`"Secrets":{` + repeat(10_001, `"s%d":{"Type":"plain","UserDefined":true}`) + `}`, "10001 secrets"},
		"recovery keys":    {`"RecoveryKeys":{` + repeat(256, `"k%d":""`) + `}`, "256 recovery keys"},
		"key work":         {`"Secrets":{` + repeat(33, `"s%d":{"Type":"cert-rsa","Size":4096}`) + `}`, "8448 units"},
		"certificates":     {`"Secrets":{` + repeat(8193, `"s%d":{"Type":"cert-ed25519"}`) + `}`, "8193 units"},
		"symmetric keys":   {`"Secrets":{` + repeat(5, `"s%d":{"Type":"symmetric-key","Shared":true,"Size":8388608}`) + `}`, "5242880 bytes"},
		"templates":        {`"Marbles":{"m":{"Package":"p","Parameters":{"Env":{` + repeat(10_001, `"E%d":"{{1}}"`) + `}}}}`, "10001 templates"},
		"action bytes":     {`"Marbles":{"m":{"Package":"p","Parameters":{"Env":{` + repeat(20, `"E%d":"{{print `+strings.Repeat("1 ", 30_000)+`}}"`) + `}}}}`, "actions of all templates"},
		"one template":     {`"Marbles":{"m":{"Package":"p","Parameters":{"Env":{"E":"` + strings.Repeat("{{1}}", 10_001) + `"}}}}`, "10001 actions"},
		"template overall": {`"Marbles":{"m":{"Package":"p","Parameters":{"Env":{` + repeat(40, `"E%d":"{{with .Secrets.k}}{{range .Size}}{{end}}{{end}}"`) + `}}}},"Secrets":{"k":{"Type":"symmetric-key","UserDefined":true,"Size":18446744073709551608}}`, "all templates together"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			doc := tc.doc
			if !strings.Contains(doc, `"Marbles"`) {
				doc = `"Marbles":{"m":{"Package":"p"}},` + doc
			}
			found := problems(t, `{"Packages":{"p":{"Debug":true,"UniqueID":"00"}},`+doc+`}`).Errors()
			if text := found.Error(); !strings.Contains(text, tc.want) && !contains(found, tc.want) {
				t.Errorf("want %q in %s", tc.want, text)
			}
			if len(found.Error()) > 32<<10 {
				t.Errorf("the error has %d bytes", len(found.Error()))
			}
		})
	}
}

func contains(problems manifest.Problems, text string) bool {
	for _, p := range problems {
		if strings.Contains(p.Text, text) {
			return true
		}
	}
	return false
}

// TestWarningsDoNotHideErrors: there are limits for both, and a flood of one leaves the other.
func TestWarningsDoNotHideErrors(t *testing.T) {
	statuses := strings.TrimSuffix(strings.Repeat(`"x",`, 5000), ",")
	doc := `{"Packages":{"a":{"Debug":true,"AcceptedTCBStatuses":[` + statuses + `],` + repeat(5000, `"unknown%d":1`) + `}},` +
		`"Marbles":{"m":{"Package":"z"}}}`
	found := problems(t, doc)
	if len(found.Warnings()) != manifest.MaxProblems || len(found.Errors()) != 1 {
		t.Errorf("%d warnings, errors %v", len(found.Warnings()), found.Errors())
	}
	// Parse too: unknown fields before a value of a wrong type.
	if _, err := manifest.Parse([]byte(`{` + repeat(5000, `"u%d":1`) + `,"Users":1}`)); err == nil || !strings.Contains(err.Error(), "$.Users") {
		t.Errorf("%v", err)
	}
	// And errors do not hide warnings.
	doc = `{"Marbles":{` + repeat(3000, `"m%d":{"Package":"a"}`) + `},"x":1}`
	found = problems(t, doc)
	if len(found.Warnings()) != 1 || len(found.Errors()) != manifest.MaxProblems {
		t.Errorf("%d errors, warnings %v", len(found.Errors()), found.Warnings())
	}
}

func TestErrorIsBounded(t *testing.T) {
	name := strings.Repeat("ä", 500)
	doc := `{"Marbles":{` + repeat(3000, `"`+name+`%d":{"Package":"`+name+`","TLS":["`+name+`"]}`) + `}}`
	if text := problems(t, doc).Error(); len(text) > 40<<10 || !strings.Contains(text, "and 940 more") {
		t.Errorf("%d bytes: …%s", len(text), text[max(0, len(text)-200):])
	}
}

func TestDryRunCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	m := parse(t, complete(t))
	if err := m.DryRun(ctx, nil).Err(); err == nil || !strings.Contains(err.Error(), "cancelled: enough") {
		t.Errorf("%v", err)
	}
}

func TestTooManyValues(t *testing.T) {
	for name, doc := range map[string]string{
		"list":    `{"Marbles":{"m":{"Parameters":{"Argv":[` + repeat(70_000, `"%d"`) + `]}}}}`,
		"map":     `{"Secrets":{` + repeat(70_000, `"%d":{}`) + `}}`,
		"unknown": `{` + repeat(70_000, `"%d":0`) + `}`,
	} {
		_, err := manifest.Parse([]byte(doc))
		if err == nil || !strings.Contains(err.Error(), "more than 65536 fields") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
