// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package ttls_test

import (
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marblerun/marblerun/ttls"
)

func block(label, content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: []byte(content)}))
}

// TestMarshal: contract marble-api §7, the rows "Incoming/Outgoing" and "Serialisation".
func TestMarshal(t *testing.T) {
	for name, c := range map[string]struct {
		config ttls.Config
		want   string
	}{
		"both maps present": {ttls.Config{}, `{"tls":{"Incoming":{},"Outgoing":{}}}`},
		"sorted, compact, escaped": {
			ttls.Config{TLS: ttls.Policy{
				Incoming: map[string]ttls.Incoming{
					"*:9090": {CACert: "ca", Cert: "crt", Key: "key"},
					"*:8080": {CACert: "<&>", Cert: "crt", Key: "key\n", ClientAuth: true},
				},
				Outgoing: map[string]ttls.Outgoing{"service:4242": {CACert: "ca", Cert: "crt", Key: "key"}},
			}},
			`{"tls":{"Incoming":{` +
				`"*:8080":{"cacrt":"\u003c\u0026\u003e","clicrt":"crt","clientAuth":true,"clikey":"key\n"},` +
				`"*:9090":{"cacrt":"ca","clicrt":"crt","clientAuth":false,"clikey":"key"}},` +
				`"Outgoing":{"service:4242":{"cacrt":"ca","clicrt":"crt","clikey":"key"}}}}`,
		},
	} {
		got, err := c.config.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Error(name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	ca, crt, key := block("CERTIFICATE", "ca"), block("CERTIFICATE", "crt"), block("PRIVATE KEY", "hidden")
	entry := func(address, ca, crt, key string) string {
		c := ttls.Config{TLS: ttls.Policy{Outgoing: map[string]ttls.Outgoing{address: {CACert: ca, Cert: crt, Key: key}}}}
		data, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if _, err := ttls.Parse([]byte(entry("web:80", ca, crt, key))); err != nil {
		t.Fatalf("the complete entry: %v", err)
	}
	for name, c := range map[string]struct{ in, want string }{
		"nothing":         {"", "EOF"},
		"null":            {"null", "null"},
		"not JSON":        {"{", "EOF"},
		"trailing data":   {`{"tls":{}} {}`, "more after"},
		"wrong type":      {`{"tls":{"Incoming":[]}}`, "array"},
		"too long":        {strings.Repeat(" ", ttls.MaxBytes+1), "at most"},
		"no port":         {entry("web", ca, crt, key), "ADDRESS:PORT"},
		"empty port":      {entry("web:", ca, crt, key), "ADDRESS:PORT"},
		"no CA":           {entry("web:80", "", crt, key), "cacrt"},
		"key for a cert":  {entry("web:80", ca, key, key), "clicrt"},
		"cert for a key":  {entry("web:80", ca, crt, crt), "clikey"},
		"several at once": {entry("web", "", "", ""), "clikey"},
	} {
		_, err := ttls.Parse([]byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "aGlkZGVu") {
			t.Errorf("%s: the error leaks the key", name)
		}
	}
}

func TestEmpty(t *testing.T) {
	c, err := ttls.Parse([]byte(`{"tls":{"Incoming":{},"Outgoing":{}}}`))
	if err != nil || !c.Empty() {
		t.Errorf("%v %v", c, err)
	}
}

func TestRoundTrip(t *testing.T) {
	address := rapid.StringMatching(`[a-z*.:\[\]<>é-]{1,12}:[0-9a-z]{1,5}`)
	cert := rapid.Map(rapid.String(), func(s string) string { return block("CERTIFICATE", s) })
	key := rapid.Map(rapid.String(), func(s string) string { return block("EC PRIVATE KEY", s) })
	rapid.Check(t, func(t *rapid.T) {
		c := ttls.Config{TLS: ttls.Policy{Incoming: map[string]ttls.Incoming{}, Outgoing: map[string]ttls.Outgoing{}}}
		for _, a := range rapid.SliceOfN(address, 0, 4).Draw(t, "incoming") {
			c.TLS.Incoming[a] = ttls.Incoming{CACert: cert.Draw(t, "ca"), Cert: cert.Draw(t, "cert"),
				Key: key.Draw(t, "key"), ClientAuth: rapid.Bool().Draw(t, "auth")}
		}
		for _, a := range rapid.SliceOfN(address, 0, 4).Draw(t, "outgoing") {
			c.TLS.Outgoing[a] = ttls.Outgoing{CACert: cert.Draw(t, "ca"), Cert: cert.Draw(t, "cert"), Key: key.Draw(t, "key")}
		}
		data, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ttls.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&c, got); diff != "" {
			t.Fatal(diff)
		}
		if len(got.Listen()) != len(c.TLS.Incoming) || len(got.Dial()) != len(c.TLS.Outgoing) {
			t.Fatal("Listen and Dial do not name the entries")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"tls":{"Incoming":{},"Outgoing":{}}}`))
	c := ttls.Config{TLS: ttls.Policy{Incoming: map[string]ttls.Incoming{"*:80": {
		CACert: block("CERTIFICATE", "ca"), Cert: block("CERTIFICATE", "crt"), Key: block("PRIVATE KEY", "k")}}}}
	data, err := c.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ttls.Parse(data)
		if err != nil {
			return
		}
		again, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ttls.Parse(again); err != nil {
			t.Fatalf("what was accepted is refused after Marshal: %v", err)
		}
	})
}
