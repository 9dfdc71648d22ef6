// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// readChain reads exactly n certificates in PEM and puts them in order, from the leaf to the root. White space and
// zeros may follow.
func readChain(chain []byte, n int, parse func(der []byte) (*x509.Certificate, error)) ([]*x509.Certificate, error) {
	certs := make([]*x509.Certificate, 0, n)
	for len(certs) < n {
		der, rest, err := nextPEM(chain)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %d: %w", len(certs)+1, n, err)
		}
		cert, err := parse(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %d: %w", len(certs)+1, n, err)
		}
		certs, chain = append(certs, cert), rest
	}
	if len(bytes.Trim(chain, "\x00 \t\r\n")) > 0 {
		return nil, fmt.Errorf("something follows the %d certificates", n)
	}
	slices.SortStableFunc(certs, func(a, b *x509.Certificate) int { return cmp.Compare(rank(a), rank(b)) })
	return certs, nil
}

// nextPEM decodes the certificate at the start of text. Unlike encoding/pem it allows nothing before it, no headers and
// no other encoding of the same bytes, except for line ends.
func nextPEM(text []byte) (der, rest []byte, err error) {
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	body, ok := bytes.CutPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte(begin))
	if !ok {
		return nil, nil, errors.New("no PEM certificate")
	}
	body, rest, ok = bytes.Cut(body, []byte(end))
	if !ok {
		return nil, nil, errors.New("PEM without end")
	}
	der, err = base64.StdEncoding.Strict().AppendDecode(nil, body)
	return der, rest, err
}

// rank orders a chain: the leaf, CAs, the root.
func rank(cert *x509.Certificate) int {
	switch {
	case !cert.IsCA:
		return 0
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return 1
	}
	return 2
}
