// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !pkcs11

package credential_test

import (
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/credential"
)

func TestPKCS11(t *testing.T) { t.Skip("SKIP: tokens are tested with cgo and -tags pkcs11") }

func TestNoPKCS11(t *testing.T) {
	token := credential.Token{Config: "token.json"}
	_, _, err := credential.LoadClient("", "", token)
	if err == nil || !strings.Contains(api.Hint(err), "-tags pkcs11") {
		t.Errorf("a token was opened by a build without PKCS #11: %v", err)
	}
	if _, _, err := credential.LoadRecoveryKey("", token); err == nil {
		t.Error("a token was opened by a build without PKCS #11")
	}
}
