// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Key is a recovery key of the recovered manifest.
type Key struct {
	Name   string
	Public *rsa.PublicKey
}

// SignatureError names the shares whose signatures fit no recovery key.
type SignatureError struct {
	// Holders are the indexes of the holders in the order of Split, sorted; -1 where it is unknown.
	Holders []int
	// Names are the names of the recovery keys that belong to Holders, as far as known.
	Names []string
}

func (e *SignatureError) Error() string {
	if len(e.Names) == len(e.Holders) {
		return fmt.Sprintf("the signature does not belong to the recovery key %s", quoted(e.Names))
	}
	return fmt.Sprintf("%d of the uploaded secrets are not signed by a recovery key of the manifest", len(e.Holders))
}

// CheckSignatures matches the accepted shares with the recovery keys of the recovered manifest, sorted by name, whose
// scheme is s: every share must be signed with a key of its own, and as many as are needed must be there. It returns
// the names of the signers, sorted. Shares with a bad signature are dropped and named in a *SignatureError; the others
// stay.
func (c *Collector) CheckSignatures(s Scheme, keys []Key) (signers []string, err error) {
	free := slices.Clone(keys)
	var bad SignatureError
	var good []submission
	for _, a := range c.accepted {
		i := slices.IndexFunc(free, func(k Key) bool { return VerifySignature(k.Public, a.Share, a.Signature) == nil })
		if i < 0 {
			bad.add(a, keys)
			continue
		}
		signers = append(signers, free[i].Name)
		free = slices.Delete(free, i, i+1)
		good = append(good, a)
	}
	if len(bad.Holders) > 0 {
		c.accepted = good
		slices.Sort(bad.Holders)
		slices.Sort(bad.Names)
		return nil, &bad
	}
	slices.Sort(signers)
	if len(keys) != s.N || len(signers) != s.Needed() {
		return nil, fmt.Errorf("recovery keys in manifest do not match the keys used for recovery: expected %d of %d, got %d",
			s.Needed(), s.N, len(signers))
	}
	return signers, nil
}

func quoted(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strconv.Quote(name)
	}
	return strings.Join(list, ", ")
}

func (e *SignatureError) add(s submission, keys []Key) {
	e.Holders = append(e.Holders, s.Holder)
	if s.Holder >= 0 && s.Holder < len(keys) {
		e.Names = append(e.Names, keys[s.Holder].Name)
	}
}
