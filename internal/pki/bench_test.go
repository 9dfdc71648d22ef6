// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"net"
	"testing"
)

// BenchmarkFloor is the cryptography that a leaf cannot do without.
func BenchmarkFloor(b *testing.B) {
	ca := newTestCA(b)
	digest := sha512.Sum384([]byte("tbs"))
	for b.Loop() {
		if _, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
			b.Fatal(err)
		}
		if _, err := ecdsa.SignASN1(rand.Reader, ca.IntermediateKey, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssueMarble(b *testing.B) {
	ca := newTestCA(b)
	csr := &CSR{
		DNSNames: []string{"web", "web.ns", "web.ns.svc.cluster.local"},
		IPs:      []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for b.Loop() {
		if _, err := ca.IssueMarble(csr, testUUID, "web", nil, testNow(), rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
