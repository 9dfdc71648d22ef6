// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/marblerun/marblerun/attest/softtee"
)

// FuzzShow explains anything, in any form, without panic; what it explains renders as text.
func FuzzShow(f *testing.F) {
	platform, err := softtee.New(softtee.Options{Seed: []byte("a seed of sixteen bytes or more")})
	if err != nil {
		f.Fatal(err)
	}
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv4, softtee.TDXv5, softtee.SNPv2} {
		evidence, err := platform.Evidence(softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(evidence)
	}
	f.Add([]byte(hex.EncodeToString([]byte{3, 0, 2, 0})))
	f.Add([]byte(`{"data":{"quote":"` + base64.StdEncoding.EncodeToString([]byte{3, 0, 2, 0}) + `"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		encoding, raw, err := decode(data)
		if err != nil {
			return
		}
		d, err := describe(input{encoding: encoding, raw: raw})
		if err == nil && len(d.text()) == 0 {
			t.Error("no text")
		}
	})
}
