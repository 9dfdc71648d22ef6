// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secretcmd

import (
	"encoding/pem"
	"testing"
)

// TestSecretFromPEM: the first certificate and the first private key, whatever the order.
func TestSecretFromPEM(t *testing.T) {
	block := func(kind string, content byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte{content}}))
	}
	tests := map[string]struct {
		pem           string
		cert, private string
	}{
		"both":      {block("CERTIFICATE", 'c') + block("PRIVATE KEY", 'k'), "c", "k"},
		"key first": {block("EC PRIVATE KEY", 'k') + block("CERTIFICATE", 'c'), "c", "k"},
		"several": {block("CERTIFICATE", 'c') + block("CERTIFICATE", 'x') + block("RSA PRIVATE KEY", 'k') +
			block("PRIVATE KEY", 'x'), "c", "k"},
		"certificate": {block("CERTIFICATE", 'c'), "c", ""},
		"key":         {"text before\n" + block("PRIVATE KEY", 'k'), "", "k"},
	}
	for name, test := range tests {
		got, err := secretFromPEM([]byte(test.pem))
		if err != nil || string(got.Cert) != test.cert || string(got.Private) != test.private {
			t.Errorf("%s: got %q, %q, %v", name, got.Cert, got.Private, err)
		}
	}
}

func FuzzSecretFromPEM(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := secretFromPEM(data)
		if err == nil && s.Cert == nil && s.Private == nil {
			t.Error("nothing was found and nothing was said")
		}
	})
}
