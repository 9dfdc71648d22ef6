// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral/internal/item"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/dcap/pck"
	"github.com/marblerun/marblerun/attest/snp"
)

const (
	// MaxBundle is the largest bundle that is read, in bytes.
	MaxBundle = 32 << 20

	bundleFormat  = "marblerun-collateral"
	bundleVersion = 1
)

// Bundle is collateral for given platforms in one file, and a Source that has nothing else. It gives what it has
// whether that is current or not: the verification says so. It is immutable once made.
type Bundle struct {
	Created time.Time
	dcap    []platform
	snp     map[string]*item.Item // by path at the KDS
}

var _ Source = (*Bundle)(nil)

// platform is the collateral of an FMSPC. What it is for follows from its content.
type platform struct {
	tee        attest.TEE
	fmspc      string // upper case
	ca         pck.CA // empty without PCK CRL
	collateral *dcap.Collateral
	items      []*item.Item
}

// bundleFile is the JSON form. The items of SNP are base64, of DER or, for chains, PEM.
type bundleFile struct {
	Format  string            `json:"format"`
	Version int               `json:"version"`
	Created time.Time         `json:"created"`
	DCAP    []json.RawMessage `json:"dcap,omitempty"` // each a dcap.Collateral
	SNP     map[string][]byte `json:"snp,omitempty"`
}

// Bundle gets the collateral of platforms for a Bundle. What came with the evidence becomes part of it.
func (f *Fetcher) Bundle(ctx context.Context, intel []DCAPNeed, amd []SNPNeed) (*Bundle, error) {
	b := &Bundle{Created: f.cfg.Now().UTC(), snp: map[string]*item.Item{}}
	for _, need := range intel {
		col, err := f.DCAP(ctx, need)
		if err != nil {
			return nil, err
		}
		if err := b.add(col); err != nil {
			return nil, err
		}
	}
	for _, need := range amd {
		if err := b.addSNP(ctx, f, need); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *Bundle) add(col *dcap.Collateral) error {
	p, err := newPlatform(col)
	if err != nil {
		return err
	}
	same := func(o platform) bool { return o.tee == p.tee && o.fmspc == p.fmspc && o.ca == p.ca }
	b.dcap = append(slices.DeleteFunc(b.dcap, same), p)
	return nil
}

func (b *Bundle) addSNP(ctx context.Context, f *Fetcher, need SNPNeed) error {
	var failed error
	keep := func(k item.Kind, path string, body []byte) {
		it, err := item.Read(k, body, "")
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", k, err))
			return
		}
		b.snp[path] = it
	}
	certs, err := f.snp(ctx, need, keep)
	if err != nil {
		return err
	}
	product, err := productOf(certs.VEK, need.Products)
	if err != nil {
		return err
	}
	if path := need.VEKPath(product); path != "" {
		keep(item.VCEK, path, certs.VEK)
	}
	if len(need.Have.ASK) > 0 && len(need.Have.ARK) > 0 {
		keep(item.AMDChain, need.ChainPath(product), chainPEM(need.Have.ASK, need.Have.ARK))
	}
	return failed
}

// newPlatform reads what collateral is for.
func newPlatform(col *dcap.Collateral) (platform, error) {
	p := platform{collateral: col}
	info, err := item.Read(item.TCBInfo,
		fmt.Appendf(nil, `{"tcbInfo":%s,"signature":%q}`, col.TCBInfo, col.TCBInfoSignature), "")
	if err != nil {
		return p, err
	}
	identity, err := item.Read(item.QEIdentity,
		fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":%q}`, col.QEIdentity, col.QEIdentitySignature), "")
	if err != nil {
		return p, err
	}
	tee, fmspc, _ := strings.Cut(info.Name, " ")
	p.tee, p.fmspc, p.items = attest.TEE(tee), fmspc, []*item.Item{info, identity}
	for _, list := range []struct {
		item.Kind
		dcap.CRL
	}{{item.PCKCRL, col.PCKCRL}, {item.RootCRL, col.RootCACRL}} {
		if len(list.CRL) == 0 {
			continue
		}
		crl, err := item.Read(list.Kind, list.CRL, "")
		if err != nil {
			return p, fmt.Errorf("%s: %w", list.Kind, err)
		}
		p.items = append(p.items, crl)
		if list.Kind == item.PCKCRL {
			p.ca = pckCA(crl.Name)
		}
	}
	return p, nil
}

// pckCA recognizes the CA by its common name, as package pck does.
func pckCA(name string) pck.CA {
	switch {
	case strings.Contains(name, "PCK Platform CA"):
		return pck.PlatformCA
	case strings.Contains(name, "PCK Processor CA"):
		return pck.ProcessorCA
	}
	return ""
}

// DCAP gives the collateral of a quote: that with the CRL of the CA, or with none.
func (b *Bundle) DCAP(_ context.Context, need DCAPNeed) (*dcap.Collateral, error) {
	for _, ca := range []pck.CA{need.CA, ""} {
		for _, p := range b.dcap {
			if p.tee == need.TEE && strings.EqualFold(p.fmspc, need.FMSPC) && p.ca == ca {
				return p.collateral, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: the bundle has none for %s of FMSPC %s with the CRL of the %s CA; export it with "+
		"evidence of such a machine", ErrUnknown, need.TEE, need.FMSPC, need.CA)
}

// SNP gives the certificates of a report.
func (b *Bundle) SNP(_ context.Context, need SNPNeed) (snp.Certificates, error) {
	product := ""
	if len(need.Have.VEK) > 0 {
		p, err := productOf(need.Have.VEK, need.Products)
		if err != nil {
			return snp.Certificates{}, err
		}
		product = need.ChainPath(p)
	}
	for _, p := range need.Products {
		if product == "" && b.snp[need.VEKPath(p)] != nil {
			product = need.ChainPath(p)
		}
	}
	return assemble(need, b.snp[product] == nil, func(k item.Kind, path string) ([]byte, error) {
		if it := b.snp[path]; it != nil {
			return it.Body, nil
		}
		return nil, fmt.Errorf("%w: the bundle has no %s at %s", ErrUnknown, k, path)
	})
}

// Export writes the bundle as JSON.
func (b *Bundle) Export(w io.Writer) error {
	f := bundleFile{Format: bundleFormat, Version: bundleVersion, Created: b.Created, SNP: map[string][]byte{}}
	for _, p := range b.dcap {
		raw, err := json.Marshal(p.collateral)
		if err != nil {
			return fmt.Errorf("encoding collateral of %s: %w", p.fmspc, err)
		}
		f.DCAP = append(f.DCAP, raw)
	}
	for path, it := range b.snp {
		f.SNP[path] = it.Body
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("writing collateral bundle: %w", err)
	}
	return nil
}

// Import reads a bundle, or the collateral of one platform in the JSON form of dcap.Collateral (the collateral.json of
// the vectors).
func Import(r io.Reader) (*Bundle, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("reading collateral bundle: %w", err)
	}
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("collateral bundle is larger than %d bytes", MaxBundle)
	}
	f := bundleFile{}
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("reading collateral bundle: %w", err)
	}
	if f.Format == "" {
		if !bytes.Contains(data, []byte(`"tcb_info"`)) {
			return nil, errors.New("the file is neither a collateral bundle nor the collateral of a platform (tcb_info, …)")
		}
		f = bundleFile{Format: bundleFormat, Version: bundleVersion, DCAP: []json.RawMessage{data}}
	}
	if f.Format != bundleFormat || f.Version != bundleVersion {
		return nil, fmt.Errorf("collateral bundle of format %.40q version %d; want %q version %d", f.Format, f.Version,
			bundleFormat, bundleVersion)
	}
	return f.bundle()
}

func (f bundleFile) bundle() (*Bundle, error) {
	b := &Bundle{Created: f.Created, snp: map[string]*item.Item{}}
	for i, raw := range f.DCAP {
		col, err := dcap.ParseCollateral(raw)
		if err == nil {
			err = b.add(col)
		}
		if err != nil {
			return nil, fmt.Errorf("collateral bundle, platform %d: %w", i+1, err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(f.SNP)) {
		it, err := item.Read(kindOfPath(path), f.SNP[path], "")
		if err != nil {
			return nil, fmt.Errorf("collateral bundle, %.100q: %w", path, err)
		}
		b.snp[path] = it
	}
	return b, nil
}

// kindOfPath tells what is at a path of the KDS.
func kindOfPath(path string) item.Kind {
	switch {
	case strings.HasSuffix(path, "/cert_chain"):
		return item.AMDChain
	case strings.HasSuffix(path, "/crl"):
		return item.AMDCRL
	}
	return item.VCEK
}
