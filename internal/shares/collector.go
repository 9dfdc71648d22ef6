// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrRefused means that a share is wrong or was used already. The text is part of the client API.
var ErrRefused = errors.New("uploaded an invalid or already used secret")

// ErrNotYet means that the shares at hand do not open anything: more are needed.
var ErrNotYet = errors.New("the recovery secrets uploaded so far do not yield the key")

// maxUnknown bounds the search without hashes: of k shares there are 2^k - 1 combinations, so at most 2^12 are tried.
// Without hashes nobody can tell a stranger's garbage from a share, so the oldest gives way to a new one.
const maxUnknown = 12

// shamirBytes is the length of a Shamir share of the 32-byte recovery secret.
const shamirBytes = 33

// Hashes returns the SHA-256 of each share: the bookkeeping that lets a Collector know a wrong share at once. A share
// has 32 random bytes, so its hash may be stored in clear.
func Hashes(shares [][]byte) [][]byte {
	hashes := make([][]byte, len(shares))
	for i, share := range shares {
		digest := sha256.Sum256(share)
		hashes[i] = digest[:]
	}
	return hashes
}

// submission is an accepted share and its holder's signature.
type submission struct {
	Share     []byte `json:"share"`
	Signature []byte `json:"signature"`
	// Holder is the index of the share's hash; -1 without hashes.
	Holder int `json:"holder"`
}

// Collector takes shares one at a time until they yield the secret. It is not safe for concurrent use.
type Collector struct {
	scheme   Scheme // zero if unknown
	hashes   [][]byte
	accepted []submission
}

// NewCollector returns a collector for the holders of a scheme, whose shares have these hashes. If the bookkeeping was
// lost, hashes are nil, and the scheme may be zero.
func NewCollector(s Scheme, hashes [][]byte) (*Collector, error) {
	if s == (Scheme{}) && len(hashes) == 0 {
		return &Collector{}, nil
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	if len(hashes) != 0 && len(hashes) != s.N {
		return nil, fmt.Errorf("there are %d hashes of recovery shares for %d holders", len(hashes), s.N)
	}
	return &Collector{scheme: s, hashes: hashes}, nil
}

// Add accepts a share with its holder's signature, which is checked later, by CheckSignatures. It returns how many are
// missing, or an error that wraps ErrRefused.
func (c *Collector) Add(share, signature []byte) (remaining int, err error) {
	if c.used(share) {
		return c.Remaining(), ErrRefused
	}
	holder := -1
	if len(c.hashes) > 0 {
		digest := sha256.Sum256(share)
		holder = slices.IndexFunc(c.hashes, func(h []byte) bool { return subtle.ConstantTimeCompare(h, digest[:]) == 1 })
		if holder < 0 || c.complete() {
			return c.Remaining(), ErrRefused
		}
	} else if len(share) == 0 || len(share) > 64 {
		return c.Remaining(), ErrRefused // no share has such a length
	} else if len(c.accepted) == maxUnknown {
		c.accepted = c.accepted[1:]
	}
	c.accepted = append(slices.Clip(c.accepted), submission{slices.Clone(share), slices.Clone(signature), holder})
	return c.Remaining(), nil
}

// Withdraw takes back a share that Add accepted, so that it can be given again.
func (c *Collector) Withdraw(share []byte) {
	c.accepted = slices.DeleteFunc(slices.Clone(c.accepted), func(s submission) bool {
		return subtle.ConstantTimeCompare(s.Share, share) == 1
	})
}

func (c *Collector) used(share []byte) bool {
	return slices.ContainsFunc(c.accepted, func(s submission) bool {
		return subtle.ConstantTimeCompare(s.Share, share) == 1
	})
}

func (c *Collector) complete() bool { return len(c.hashes) > 0 && len(c.accepted) == c.scheme.Needed() }

// Remaining returns how many shares are missing. Without hashes it is an estimate and never 0: only a successful Search
// tells that it is done.
func (c *Collector) Remaining() int {
	missing := c.scheme.Needed() - len(c.accepted)
	if len(c.hashes) == 0 {
		return max(1, missing)
	}
	return missing
}

// Holders returns the indexes of the holders whose shares are here, sorted. It is empty without hashes.
func (c *Collector) Holders() []int {
	var present []int
	for _, s := range c.accepted {
		if s.Holder >= 0 {
			present = append(present, s.Holder)
		}
	}
	slices.Sort(present)
	return present
}

// Combine returns the secret once Remaining is 0.
func (c *Collector) Combine() ([]byte, error) {
	if !c.complete() {
		return nil, ErrNotYet
	}
	return Combine(c.scheme, plain(c.accepted))
}

// Search returns the secret that open accepts. With hashes there is one candidate, once Remaining is 0. Without, all
// combinations of what was uploaded are tried, at most 2^12, and those that do not belong to the right one are dropped.
// ErrNotYet means that more shares are needed; an error of open ends the search. During open the accepted shares are
// those of the candidate, so that it may call CheckSignatures.
func (c *Collector) Search(ctx context.Context, open func(secret []byte) (bool, error)) ([]byte, error) {
	if len(c.hashes) > 0 {
		secret, err := c.Combine()
		if err != nil {
			return nil, err
		}
		return try(secret, open)
	}
	all := c.accepted
	for mask := 1; mask < 1<<len(all); mask++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.accepted = subset(all, mask) // open may call CheckSignatures, for these
		secret, err := c.combineChosen(open)
		if _, unsigned := errors.AsType[*SignatureError](err); err == nil || unsigned {
			return secret, err
		}
		c.accepted = all
		if !errors.Is(err, ErrNotYet) {
			return nil, err
		}
	}
	return nil, ErrNotYet
}

// combineChosen tries whether exactly the accepted shares yield the secret. An unknown scheme shows in their length.
func (c *Collector) combineChosen(open func(secret []byte) (bool, error)) ([]byte, error) {
	scheme := c.scheme
	if scheme.N == 0 {
		scheme = Scheme{N: len(c.accepted)}
		if len(c.accepted[0].Share) == shamirBytes {
			scheme = Scheme{N: MaxHolders, Threshold: len(c.accepted)}
		}
	}
	secret, err := Combine(scheme, plain(c.accepted))
	if err != nil {
		return nil, ErrNotYet // these shares do not fit together
	}
	return try(secret, open)
}

func try(secret []byte, open func(secret []byte) (bool, error)) ([]byte, error) {
	ok, err := open(secret)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotYet
	}
	return secret, nil
}

func subset(all []submission, mask int) []submission {
	var chosen []submission
	for i, s := range all {
		if mask&(1<<i) != 0 {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func plain(submissions []submission) [][]byte {
	shares := make([][]byte, len(submissions))
	for i, s := range submissions {
		shares[i] = s.Share
	}
	return shares
}

// Marshal returns the accepted shares, for a sealed side file.
func (c *Collector) Marshal() ([]byte, error) { return json.Marshal(c.accepted) }

// Restore adds what an earlier Marshal wrote. Shares that do not belong to this secret are passed over.
func (c *Collector) Restore(data []byte) error {
	var saved []submission
	if err := json.Unmarshal(data, &saved); err != nil {
		return fmt.Errorf("decoding saved recovery shares: %w", err)
	}
	for _, s := range saved {
		if _, err := c.Add(s.Share, s.Signature); err != nil && !errors.Is(err, ErrRefused) {
			return err
		}
	}
	return nil
}
