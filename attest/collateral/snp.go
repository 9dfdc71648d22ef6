// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/attest/collateral/internal/item"
	"github.com/marblerun/marblerun/attest/snp"
)

// DistrustSNP says that a verification refused what SNP gave, and that it was not only the report's fault. It will be
// asked for anew. It returns false if that was done already a moment ago, or if nothing of it was had from the service.
func (f *Fetcher) DistrustSNP(need SNPNeed) (anew bool) {
	for _, p := range need.Products {
		paths := []string{need.CRLPath(p), need.ChainPath(p)}
		if vek := need.VEKPath(p); vek != "" && len(need.Have.VEK) == 0 {
			paths = append(paths, vek)
		}
		for _, path := range paths {
			anew = f.distrustURL(f.kds+path) || anew
		}
	}
	return anew
}

func (f *Fetcher) distrustURL(url string) bool {
	now := f.cfg.Now()
	f.mu.Lock()
	before := f.trails[url].distrusted
	f.mu.Unlock()
	if now.Sub(before) < distrustEvery || !f.memory.Suspect(url) {
		return false
	}
	f.note(url, trail{distrusted: now})
	return true
}

// assemble gets what the evidence did not bring along. get returns what is at a path of the KDS. With vendor, AMD's
// intermediates are those built in; a mirror or a software TEE is asked for its own.
func assemble(need SNPNeed, vendor bool, get func(k item.Kind, path string) ([]byte, error)) (snp.Certificates, error) {
	certs := need.Have
	product, err := vek(need, &certs, get)
	if err != nil {
		return snp.Certificates{}, err
	}
	if len(certs.ASK) == 0 {
		if err := intermediate(need, product, &certs, vendor, get); err != nil {
			return snp.Certificates{}, err
		}
	}
	crl, err := get(item.AMDCRL, need.CRLPath(product))
	switch {
	case err == nil:
		certs.CRL = crl
	case errors.As(err, &notAdmitted{}):
		return snp.Certificates{}, err
	case len(certs.CRL) > 0 || need.CRLOptional || !errors.Is(err, ErrUnavailable):
		// The host's list will do, or none; a list that does not exist is for the verification to refuse.
	default:
		return snp.Certificates{}, err
	}
	return certs, nil
}

// vek gets the certificate of the key that signed, unless it is there, and tells the product.
func vek(need SNPNeed, certs *snp.Certificates, get func(item.Kind, string) ([]byte, error)) (snp.Product, error) {
	if len(certs.VEK) > 0 {
		return productOf(certs.VEK, need.Products)
	}
	problems := []error{fmt.Errorf("%w: the report came without the certificate of the %s that signed it, and AMD's "+
		"service cannot be asked for it; have the host provide the certificate table (extended report)", ErrUnknown, need.Key)}
	for i, p := range need.Products {
		path := need.VEKPath(p)
		if path == "" {
			continue
		}
		body, err := get(item.VCEK, path)
		if err == nil {
			certs.VEK = body
			return p, nil
		}
		if i == 0 {
			problems = nil
		}
		problems = append(problems, err)
		if !errors.Is(err, ErrUnknown) {
			break
		}
	}
	return "", errors.Join(problems...)
}

func intermediate(need SNPNeed, p snp.Product, certs *snp.Certificates, vendor bool,
	get func(item.Kind, string) ([]byte, error)) (err error) {
	if vendor {
		certs.ASK, certs.ARK = snp.AMDChain(p, need.Key)
		return nil
	}
	chain, err := get(item.AMDChain, need.ChainPath(p))
	if err != nil {
		return err
	}
	certs.ASK, certs.ARK, err = snp.SplitChain(chain)
	return err
}

// productName is AMD's extension with the product's name, e.g. "Milan-B0".
const productName = "1.3.6.1.4.1.3704.1.2"

// productOf reads the product from a VEK certificate. Nothing is verified.
func productOf(vek []byte, candidates []snp.Product) (snp.Product, error) {
	if block, rest := pem.Decode(vek); block != nil && len(bytes.TrimSpace(rest)) == 0 {
		vek = block.Bytes
	}
	cert, err := x509.ParseCertificate(vek)
	if err != nil {
		return "", fmt.Errorf("%w: the VEK certificate that came with the report cannot be read: %w", ErrUnknown, err)
	}
	for _, e := range cert.Extensions {
		var name string
		if e.Id.String() != productName {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &name); err != nil {
			break
		}
		base, _, _ := strings.Cut(name, "-")
		if p := snp.Product(base); slices.Contains(snp.Products(), p) {
			return p, nil
		}
		return snp.Genoa, nil // Bergamo and Siena have Genoa's root; a wrong guess is refused
	}
	if len(candidates) == 0 {
		return "", fmt.Errorf("%w: the VEK certificate names no product", ErrUnknown)
	}
	return candidates[0], nil
}
