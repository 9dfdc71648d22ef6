// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/snp"
)

// report verifies an SEV-SNP report. What the host sent along is used, but AMD's CRL is preferred to the host's, which
// might be older.
func (v *Verifier) report(ctx context.Context, e attest.Evidence) (*attest.Claims, error) {
	need, err := v.snpNeed(e)
	if err != nil {
		return nil, err
	}
	// A software TEE's host has all that is needed, and AMD has nothing of it: no use to ask.
	if len(need.Have.CRL) > 0 || v.cfg.AllowMissingCRLs {
		if claims, err, ok := v.softwareReport(e.Quote, need.Have); ok {
			return claims, err
		}
	}
	claims, err := v.reportOnce(ctx, e.Quote, need)
	if again, ok := v.source.(snpDistruster); ok && certificatesRefused(err) && again.DistrustSNP(need) {
		v.cfg.Log.Warn("certificates of AMD's service were refused; getting them anew", "error", err)
		claims, err = v.reportOnce(ctx, e.Quote, need)
	}
	return claims, err
}

// snpDistruster is a Source that can get certificates anew when what it gave was no good.
type snpDistruster interface {
	DistrustSNP(collateral.SNPNeed) bool
}

// certificatesRefused tells whether certificates or the CRL may be to blame for a refusal.
func certificatesRefused(err error) bool {
	codes := []string{snp.CodeFormat, snp.CodeProduct, snp.CodeRoot, snp.CodeChain, snp.CodeCRL, snp.CodeTCB, snp.CodeChip}
	return slices.ContainsFunc(codes, func(code string) bool { return has(err, code) })
}

func (v *Verifier) reportOnce(ctx context.Context, report []byte, need collateral.SNPNeed) (*attest.Claims, error) {
	certs, err := v.source.SNP(ctx, need)
	if err != nil {
		return nil, unhad(err)
	}
	claims, err := snp.Verify(report, certs, v.snpOptions(v.cfg.AMDRoots))
	if has(err, snp.CodeRoot) {
		if claims, err, ok := v.softwareReport(report, certs); ok {
			return claims, err
		}
	}
	return claims, err
}

// snpNeed tells what a report needs, or refuses it.
func (v *Verifier) snpNeed(e attest.Evidence) (collateral.SNPNeed, error) {
	r, err := snp.ParseReport(e.Quote)
	if err != nil {
		return collateral.SNPNeed{}, err
	}
	needs, err := r.Needs()
	if err != nil {
		return collateral.SNPNeed{}, err
	}
	table, err := snp.ParseCertTable(e.CertTable)
	if err != nil {
		return collateral.SNPNeed{}, err
	}
	have := table.Certificates(needs.Key)
	return collateral.SNPNeed{Needs: needs, Have: have, CRLOptional: v.cfg.AllowMissingCRLs,
		Admit: func() error { return v.admitReport(e.Quote, have) }}, nil
}

func (v *Verifier) snpOptions(roots snp.Roots) snp.Options {
	return snp.Options{Roots: roots, Time: v.cfg.Now(), AllowMissingCRL: v.cfg.AllowMissingCRLs, Cache: v.snpChains}
}

// softwareReport verifies a report by each software root; ok is false if it is under none of them.
func (v *Verifier) softwareReport(report []byte, certs snp.Certificates) (claims *attest.Claims, err error, ok bool) {
	if len(certs.VEK) == 0 || len(certs.ASK) == 0 {
		return nil, nil, false
	}
	for _, root := range v.software {
		if root.snp == nil || !root.signed(report, certs, v.snpOptions(root.snp)) {
			continue
		}
		claims, err := snp.Verify(report, certs, v.snpOptions(root.snp))
		root.mark(claims)
		return claims, err, true
	}
	return nil, nil, false
}

// signed tells whether the root vouches for the report, but for revocation.
func (r softwareRoot) signed(report []byte, certs snp.Certificates, opts snp.Options) bool {
	certs.CRL, opts.AllowMissingCRL = nil, true
	_, err := snp.Verify(report, certs, opts)
	return err == nil
}

// admitReport checks what can be checked without AMD's service: that the certificates that came along fit. Without them
// there is nothing to check; requests are paced then.
func (v *Verifier) admitReport(report []byte, have snp.Certificates) error {
	if len(have.VEK) == 0 || len(have.ASK) == 0 {
		return nil
	}
	opts := v.snpOptions(v.cfg.AMDRoots)
	have.CRL, opts.AllowMissingCRL = nil, true
	_, err := snp.Verify(report, have, opts)
	if has(err, snp.CodeRoot) && len(v.software) > 0 {
		return nil
	}
	return err
}
