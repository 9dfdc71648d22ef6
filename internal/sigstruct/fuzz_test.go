// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sigstruct

import (
	"bytes"
	"testing"

	"github.com/marblerun/marblerun/internal/sigstruct/sigstructtest"
)

// Whatever a file has: no panic, and what is found is in the file.
func FuzzELF(f *testing.F) {
	s := key(f).Sign(sample)
	f.Add(sigstructtest.ELF(sigstructtest.Section{Name: ".oeinfo", Data: sigstructtest.OEInfo(s)}))
	f.Add(sigstructtest.ELF(sigstructtest.Section{Name: ".note.sgxmeta", Data: sigstructtest.SGXMeta(s, s)}))
	f.Add(sigstructtest.ELF())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, section := range []string{".oeinfo", ".note.sgxmeta"} {
			found, err := findInELF(bytes.NewReader(data), section)
			if (err == nil) != (len(found) > 0) {
				t.Fatalf("%d found, %v", len(found), err)
			}
			for _, s := range found {
				if !bytes.Contains(data, s.raw[:]) {
					t.Error("found what is not there")
				}
			}
		}
	})
}

func FuzzFind(f *testing.F) {
	k := key(f)
	good := k.Sign(sample)
	f.Add(good)
	f.Add(sigstructtest.SGXMeta(good, good[:1000], good))
	f.Add([]byte(header1))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, _ := Find(data)
		for _, s := range found {
			_, _ = s.Date(), s.Debug()
			// Nobody but the signer makes a valid one: what verifies says what was signed.
			if s.SignerID == k.SignerID() && s.Verify() == nil && s.UniqueID != sample.MRENCLAVE {
				t.Error("a forgery")
			}
		}
	})
}
