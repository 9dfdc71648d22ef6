// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"cmp"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest/collateral/internal/item"
)

// Content describes an item of a Bundle.
type Content struct {
	Kind string `json:"kind"` // e.g. "TCB info"
	// Of is whose it is: TEE and FMSPC, TEE, issuer, or path at the KDS.
	Of string `json:"of"`
	// Issued and NextUpdate bound its window; a VCEK and a chain have no NextUpdate.
	Issued     time.Time `json:"issued,omitzero"`
	NextUpdate time.Time `json:"nextUpdate,omitzero"`
	// TCBEvaluationDataNumber is of TCB info and QE identity.
	TCBEvaluationDataNumber int    `json:"tcbEvaluationDataNumber,omitempty"`
	SHA256                  string `json:"sha256"`
}

// Show lists what is in the bundle, each item once, sorted.
func (b *Bundle) Show() []Content {
	var all []Content
	for _, p := range b.dcap {
		for _, it := range p.items {
			all = append(all, content(it, it.Name))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b.snp)) {
		all = append(all, content(b.snp[path], path))
	}
	slices.SortStableFunc(all, func(a, c Content) int {
		return cmp.Or(cmp.Compare(a.Kind, c.Kind), cmp.Compare(a.Of, c.Of), cmp.Compare(a.SHA256, c.SHA256))
	})
	return slices.Compact(all)
}

func content(it *item.Item, of string) Content {
	return Content{Kind: string(it.Kind), Of: of, Issued: it.Issued, NextUpdate: it.Next,
		TCBEvaluationDataNumber: it.Evaluation, SHA256: fmt.Sprintf("%x", sha256.Sum256(it.Body))}
}

// NextUpdate is when the first item of the bundle expires; zero if none does.
func (b *Bundle) NextUpdate() (first time.Time) {
	for _, c := range b.Show() {
		if !c.NextUpdate.IsZero() && (first.IsZero() || c.NextUpdate.Before(first)) {
			first = c.NextUpdate
		}
	}
	return first
}

// chainPEM joins two certificates in DER or PEM.
func chainPEM(certs ...[]byte) []byte {
	var out strings.Builder
	for _, cert := range certs {
		if block, _ := pem.Decode(cert); block != nil {
			cert = block.Bytes
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	}
	return []byte(out.String())
}
