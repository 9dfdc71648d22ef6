// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// Roots are the ARK public keys that are trusted, by product. Keys are pinned, not certificates.
type Roots map[Product][]*rsa.PublicKey

// amdFiles has AMD's public certificates as https://kdsintf.amd.com/{vcek,vlek}/v1/{product}/cert_chain serves them:
// the intermediate, then the ARK.
//
//go:embed roots/*.pem
var amdFiles embed.FS

// AMDRoots are AMD's root keys. They are parsed at each call: keep the result.
func AMDRoots() Roots {
	roots := Roots{}
	for _, p := range Products() {
		_, ark := AMDChain(p, VCEK)
		cert, err := parseCert(ark, "ARK")
		if err != nil {
			continue // no root, nothing is trusted; a test holds that all are there
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok {
			roots[p] = []*rsa.PublicKey{key}
		}
	}
	return roots
}

// AMDChain are AMD's certificates above a VEK, PEM: the intermediate (ASK, or ASVK for a VLEK) and the root. Both are
// nil for an unknown product or kind of key.
func AMDChain(p Product, k Key) (ask, ark []byte) {
	name := fmt.Sprintf("roots/%s_%s.pem", strings.ToLower(string(p)), strings.ToLower(string(k)))
	chain, err := amdFiles.ReadFile(name)
	if err != nil {
		return nil, nil
	}
	if ask, ark, err = SplitChain(chain); err != nil {
		return nil, nil
	}
	return ask, ark
}

// SplitChain takes a certificate chain as AMD's key service serves it apart: two PEM blocks, intermediate and root.
func SplitChain(chain []byte) (ask, ark []byte, err error) {
	if len(chain) > 2*maxCertSize {
		return nil, nil, fmt.Errorf("certificate chain of %d bytes, at most %d are read", len(chain), 2*maxCertSize)
	}
	first, rest := pem.Decode(chain)
	if first == nil {
		return nil, nil, fmt.Errorf("certificate chain has no PEM block")
	}
	second, rest := pem.Decode(rest)
	if second == nil || len(bytes.TrimSpace(rest)) != 0 {
		return nil, nil, fmt.Errorf("certificate chain does not have exactly two PEM blocks")
	}
	return pem.EncodeToMemory(first), pem.EncodeToMemory(second), nil
}

// ParseRoots reads root keys from certificates in PEM whose common name begins with ARK-<product>, such as the file of
// a software TEE. Other blocks are skipped; it is an error if there is no root among them.
func ParseRoots(data []byte) (Roots, error) {
	roots := Roots{}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("root certificate: %w", err)
		}
		name, ok := strings.CutPrefix(commonName(cert.Subject.CommonName), "ARK-")
		key, isRSA := cert.PublicKey.(*rsa.PublicKey)
		if p := Product(name); ok && isRSA && slices.Contains(Products(), p) {
			roots[p] = append(roots[p], key)
		}
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("there is no AMD root certificate (ARK-Milan, ARK-Genoa, ARK-Turin) in the file")
	}
	return roots, nil
}
