// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

// hkdfReference is RFC 5869 written out for one output block, so that the vector does not rest on the code it checks.
func hkdfReference(t *testing.T, secret, salt []byte, info string) []byte {
	t.Helper()
	extract := hmac.New(sha256.New, salt)
	extract.Write(secret)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write([]byte(info))
	expand.Write([]byte{1})
	return expand.Sum(nil)
}
