// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !pkcs11

package credential

import (
	"crypto/tls"
	"errors"

	"github.com/marblerun/marblerun/api"
)

// errNoPKCS11 is returned by builds without cgo, which the default ones are.
func errNoPKCS11() error {
	return api.WithHint(errors.New("this build of marblerun has no PKCS #11 support"),
		"Use key and certificate files, or a build made with cgo and '-tags pkcs11'.")
}

func openClient(Token) (*tls.Certificate, Close, error) { return nil, nothing, errNoPKCS11() }

func openKey(Token) (RecoveryKey, Close, error) { return nil, nothing, errNoPKCS11() }
