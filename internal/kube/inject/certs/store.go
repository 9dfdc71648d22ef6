// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The members of the Secret.
const (
	currentCert, currentKey = "ca.crt", "ca.key"
	nextCert, nextKey       = "next.crt", "next.key"
	previousCerts           = "previous.crt"
)

// store is what the Secret holds: the CA that signs, the one that will, and those that did and are still trusted.
type store struct {
	current, next *authority
	previous      []*x509.Certificate
}

// maxPrevious bounds the Secret and the CA bundle, whatever happens to clocks and lives.
const maxPrevious = 4

// readStore returns what can be used of the Secret's data; the error says what cannot.
func readStore(data map[string][]byte) (s store, err error) {
	read := func(cert, key string) *authority {
		if len(data[cert]) == 0 && len(data[key]) == 0 {
			return nil
		}
		a, readErr := readAuthority(data[cert], data[key])
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("%s and %s: %w", cert, key, readErr))
		}
		return a
	}
	s.current, s.next = read(currentCert, currentKey), read(nextCert, nextKey)
	s.previous = readCerts(data[previousCerts])
	return s, err
}

// data is the Secret's data; members that it must not have are nil.
func (s store) data() (map[string][]byte, error) {
	data := map[string][]byte{currentCert: nil, currentKey: nil, nextCert: nil, nextKey: nil, previousCerts: nil}
	put := func(a *authority, cert, key string) (err error) {
		if a != nil {
			data[cert] = certPEM(a.cert)
			data[key], err = a.keyPEM()
		}
		return err
	}
	if len(s.previous) > 0 {
		data[previousCerts] = joinPEM(s.previous)
	}
	return data, errors.Join(put(s.current, currentCert, currentKey), put(s.next, nextCert, nextKey))
}

// bundle is what the API server is to trust.
func (s store) bundle() []byte {
	certs := []*x509.Certificate{s.current.cert}
	if s.next != nil {
		certs = append(certs, s.next.cert)
	}
	return joinPEM(append(certs, s.previous...))
}

// step returns what the store should be now, and what happened in words; "" if nothing. trusted tells whether the API
// server trusts a CA already.
//
// After 2/3 of the CA's life the next one is made and trusted beside it; after 5/6, if it is trusted, it signs. It does
// not before it is an interval old: API servers learn of another bundle a moment after it was written. The old one is
// trusted until it expires, and so are all certificates that it signed.
func (s store) step(now time.Time, life time.Duration, trusted func(*x509.Certificate) bool,
) (_ store, what string, err error) {
	if s.next != nil && now.After(s.next.cert.NotAfter) {
		s.next = nil
	}
	expired := s.current == nil || now.After(s.current.cert.NotAfter)
	takesOver := func() bool {
		return expired || passed(s.current.cert, now, 5, 6) && trusted(s.next.cert) && s.next.age(now) >= interval
	}
	switch {
	case s.next != nil && takesOver():
		if !expired {
			s.previous = append([]*x509.Certificate{s.current.cert}, s.previous...)
			s.previous = s.previous[:min(len(s.previous), maxPrevious)]
		}
		s.current, s.next = s.next, nil
		return s, "the next CA signs now", nil
	case expired:
		s.current, err = newAuthority(now, life)
		return s, "there is a new CA", err
	case s.next == nil && passed(s.current.cert, now, 2, 3):
		s.next, err = newAuthority(now, life)
		return s, "the next CA is there", err
	}
	return s.forget(now)
}

// forget drops CAs that have expired. It is a change of its own, so that replicas whose clocks differ agree about it.
func (s store) forget(now time.Time) (_ store, what string, err error) {
	kept := slices.DeleteFunc(slices.Clone(s.previous), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	if len(kept) < len(s.previous) {
		what = "an expired CA is trusted no more"
	}
	s.previous = kept
	return s, what, nil
}

// holds tells whether a PEM bundle has the certificate.
func holds(bundle []byte, c *x509.Certificate) bool { return bytes.Contains(bundle, certPEM(c)) }
