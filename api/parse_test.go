// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/pem"
	"testing"
)

func TestParseMissing(t *testing.T) {
	for text, want := range map[string]int{
		"All users have acknowledged the update manifest. Update successfully applied": 0,
		"1 user still needs to acknowledge the update manifest":                        1,
		"12 users still need to acknowledge the update manifest":                       12,
	} {
		if got, err := parseMissing(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "all", "-1 users", "x users"} {
		if _, err := parseMissing(text); err == nil {
			t.Errorf("%q was understood", text)
		}
	}
}

func FuzzParseChain(f *testing.F) {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}})
	f.Add(append(block, block...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, chain []byte) {
		root, intermediate, err := parseChain(chain)
		if err == nil && intermediate.CheckSignatureFrom(root) != nil {
			t.Error("a chain that is none")
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add(200, []byte(`{"status":"success","data":{"code":3}}`))
	f.Add(500, []byte(`{"status":"error","data":null,"message":"m"}`))
	f.Add(502, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		data, err := open(code, body, "GET", "https://h/p")
		if code != 200 && err == nil {
			t.Error("a failure passed for success")
		}
		if err != nil && err.Error() == "" {
			t.Error("no text")
		}
		var status Status
		_ = decode("/status", data, &status) // must not panic
	})
}
