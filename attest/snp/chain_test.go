// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"encoding/pem"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

// TestCRL: foreign, stale and missing lists are refused, a revoked intermediate too; a list that is given counts even
// if it may be missing.
func TestCRL(t *testing.T) {
	good := issueSoft(t, softtee.SNPv3, softtee.Machine{}, nil)
	foreign := issueSoft(t, softtee.SNPv3, softtee.Machine{Product: snp.Milan}, nil).certs.CRL
	tests := map[string]struct {
		code   string
		change func(*soft)
	}{
		"missing":        {snp.CodeCRL, func(s *soft) { s.certs.CRL = nil }},
		"foreign":        {snp.CodeCRL, func(s *soft) { s.certs.CRL = foreign }},
		"bad signature":  {snp.CodeCRL, func(s *soft) { s.certs.CRL[len(s.certs.CRL)-1] ^= 1 }},
		"edited":         {snp.CodeCRL, func(s *soft) { s.certs.CRL[len(s.certs.CRL)/3] ^= 1 }},
		"truncated":      {snp.CodeCRL, func(s *soft) { s.certs.CRL = s.certs.CRL[:100] }},
		"stale":          {snp.CodeCRL, func(s *soft) { s.opts.Time = softNow.Add(360*24*time.Hour + time.Hour) }},
		"not yet":        {snp.CodeCRL, func(s *soft) { s.opts.Time = softNow.Add(-2 * time.Hour) }},
		"rubbish":        {snp.CodeCRL, func(s *soft) { s.certs.CRL = []byte{0x30} }},
		"a certificate":  {snp.CodeCRL, func(s *soft) { s.certs.CRL = s.certs.ASK }},
		"wrong PEM type": {snp.CodeCRL, func(s *soft) { s.certs.CRL = pemOf("CERTIFICATE", s.certs.CRL) }},
	}
	for name, test := range tests {
		for _, allowed := range []bool{false, true} {
			if allowed && name == "missing" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				s := good
				s.certs.CRL = slices.Clone(s.certs.CRL)
				s.opts.AllowMissingCRL = allowed
				test.change(&s)
				_, err := s.verify()
				wantCode(t, err, test.code)
			})
		}
	}
	s := good
	s.certs.CRL = pemOf("X509 CRL", s.certs.CRL)
	if _, err := s.verify(); err != nil {
		t.Errorf("PEM: %v", err)
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestRevokedIntermediate(t *testing.T) {
	p, err := softtee.New(softtee.Options{Seed: softSeed, Now: func() time.Time { return softNow }})
	if err != nil {
		t.Fatal(err)
	}
	p.Configure(func(s *softtee.Settings) { s.RevokedASKs = []snp.Product{snp.Genoa} })
	crl, err := p.AMDCRL(snp.Genoa)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []softtee.Machine{{}, {VLEK: true}} {
		s := issueSoft(t, softtee.SNPv3, m, nil)
		s.opts.Cache = snp.NewCache(2)
		if _, err := s.verify(); err != nil {
			t.Fatal(err)
		}
		s.certs.CRL = crl
		_, err := s.verify()
		wantCode(t, err, snp.CodeRevoked)
	}
}

// TestCache: a hit needs all inputs the same and everything valid; failures are not remembered.
func TestCache(t *testing.T) {
	s := issueSoft(t, softtee.SNPv3, softtee.Machine{}, nil)
	s.opts.Cache = snp.NewCache(2)
	for range 2 {
		if _, err := s.verify(); err != nil {
			t.Fatal(err)
		}
	}
	changes := map[string]struct {
		code   string
		change func(*soft)
	}{
		"no roots":    {snp.CodeRoot, func(s *soft) { s.opts.Roots = nil }},
		"other roots": {snp.CodeRoot, func(s *soft) { s.opts.Roots = snp.AMDRoots() }},
		"no CRL":      {snp.CodeCRL, func(s *soft) { s.certs.CRL = nil }},
		"late":        {snp.CodeCRL, func(s *soft) { s.opts.Time = softNow.AddDate(1, 1, 0) }},
		"very late":   {snp.CodeValidity, func(s *soft) { s.opts.Time = softNow.AddDate(20, 0, 0) }},
		"early":       {snp.CodeValidity, func(s *soft) { s.opts.Time = softNow.AddDate(-1, 0, 0) }},
		"no time":     {snp.CodeValidity, func(s *soft) { s.opts.Time = time.Time{} }},
		"report":      {snp.CodeSignature, func(s *soft) { s.report = flip(s.report, 0x90) }},
	}
	for name, test := range changes {
		for range 2 {
			c := s
			test.change(&c)
			_, err := c.verify()
			t.Run(name, func(t *testing.T) { wantCode(t, err, test.code) })
		}
	}
	for i := range 5 { // more machines than places
		other := issueSoft(t, softtee.SNPv3, softtee.Machine{Name: string(rune('a' + i))}, nil)
		other.opts.Cache = s.opts.Cache
		if _, err := other.verify(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.verify(); err != nil {
		t.Errorf("after eviction: %v", err)
	}
}

func TestCacheConcurrently(t *testing.T) {
	var all []soft
	cache := snp.NewCache(2)
	for i := range 4 {
		s := issueSoft(t, softtee.SNPv5, softtee.Machine{Name: string(rune('a' + i))}, nil)
		s.opts.Cache = cache
		all = append(all, s)
	}
	var running sync.WaitGroup
	for i := range 16 {
		running.Go(func() {
			if _, err := all[i%len(all)].verify(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
}

// flip returns a copy with a bit of a byte flipped.
func flip(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}
