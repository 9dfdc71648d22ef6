// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package certs looks after the serving certificate of the webhook, without which the API server talks to nobody.
//
// Either the certificate comes from files that somebody else replaces (Files), for example cert-manager. Or the
// injector looks after itself (Managed): it keeps a CA of its own in a Secret that all replicas share, signs a
// certificate for this process, and writes the CA into the webhook configuration. docs/reference/injector.md draws the
// time line.
//
// Invariants:
//
//   - A certificate that works is only ever replaced by one that works; a failure leaves the one in use.
//   - A replica serves with a certificate of a CA only after that CA was seen in the webhook configuration, or there is
//     no configuration. A CA stays in the configuration until it has expired.
//   - No leader: replicas that change the same object at once get a conflict, read again and agree.
//   - The key of a serving certificate never leaves the process; keys are in no log line and no error.
package certs

import (
	"crypto/tls"
	"errors"
	"time"
)

// Observer is told about the certificate.
type Observer interface {
	// Certificate: another one is in use. ca is when the CA of our own expires, zero if it is somebody else's.
	Certificate(notAfter, ca time.Time)
	// CertificateFailed: looking after it failed.
	CertificateFailed()
}

// TLS returns the webhook's TLS configuration, with the current certificate for each handshake. The API server is not
// asked for a certificate: what is answered here is no secret.
func TLS(current func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := current(); c != nil {
				return c, nil
			}
			return nil, errors.New("no serving certificate yet")
		},
	}
}
