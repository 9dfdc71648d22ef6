// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/pck"
	"github.com/marblerun/marblerun/attest/dcap/tcb"
)

// rate rates the platform of a quote and states the claims, or refuses. The claims hold if the signatures do.
func rate(q *Quote, chain *pckChain, signed *signedCollateral) (*attest.Claims, *attest.Refusal) {
	rating, reasons := tcb.Evaluate(signed.info, signed.identity, measured(q, chain.platform))
	if len(reasons) > 0 {
		return nil, &attest.Refusal{Reasons: reasons}
	}
	c := &attest.Claims{
		TEE:                     q.TEE,
		TCBStatus:               rating.Status,
		PlatformStatus:          rating.Platform,
		ModuleStatus:            rating.Module,
		QEStatus:                rating.QE,
		TCBEvaluationDataNumber: signed.info.EvaluationDataNumber,
		QEEvaluationDataNumber:  signed.identity.EvaluationDataNumber,
		Short:                   rating.Short,
		Machine:                 machine(chain.platform),
		Collateral:              slices.Concat(signed.relied, chain.relied),
	}
	advisories(c, rating)
	if q.SGX != nil {
		sgxClaims(c, q.SGX)
	} else {
		tdxClaims(c, q.TDX)
	}
	if c.TCBStatus == attest.NotSupported {
		return nil, notSupported(c)
	}
	return c, nil
}

// measured gathers what levels are matched by.
func measured(q *Quote, p *pck.Platform) tcb.Measured {
	m := tcb.Measured{TEE: q.TEE, FMSPC: p.FMSPC, PCEID: p.PCEID, SGX: p.SVN, PCESVN: p.PCESVN, QE: q.QEReport.qe()}
	if td := q.TDX; td != nil {
		m.SVN = tcb.SVNs(td.TEETCBSVN)
		m.MRSignerSEAM = [48]byte(td.MRSignerSEAM)
		m.SEAMAttributes = [8]byte(td.SEAMAttributes)
		if len(td.TEETCBSVN2) > 0 {
			m.SVN2, m.Has2 = tcb.SVNs(td.TEETCBSVN2), true
		}
	}
	return m
}

// advisories fills dates and advisories from the matched levels.
func advisories(c *attest.Claims, r tcb.Rating) {
	if r.PlatformLevel != nil {
		c.TCBDate = r.PlatformLevel.Date
		c.PlatformAdvisories = slices.Clone(r.PlatformLevel.Advisories)
		c.Advisories = append(c.Advisories, r.PlatformLevel.Advisories...)
	}
	if r.ModuleLevel != nil {
		c.ModuleDate = r.ModuleLevel.Date
		c.Advisories = append(c.Advisories, r.ModuleLevel.Advisories...)
	}
	if r.QELevel != nil {
		c.QEDate = r.QELevel.Date
		c.Advisories = append(c.Advisories, r.QELevel.Advisories...)
	}
	slices.Sort(c.Advisories)
	c.Advisories = slices.Compact(c.Advisories)
}

func machine(p *pck.Platform) attest.Machine {
	return attest.Machine{PPID: hex.EncodeToString(p.PPID[:]), FMSPC: hex.EncodeToString(p.FMSPC[:]),
		PlatformInstanceID: hex.EncodeToString(p.PlatformInstanceID)}
}

func sgxClaims(c *attest.Claims, r *SGXReport) {
	c.Debug = r.Debug
	c.ReportData = [64]byte(r.ReportData)
	c.SGX = &attest.SGXClaims{
		MRENCLAVE: r.MRENCLAVE.String(), MRSIGNER: r.MRSIGNER.String(), ISVPRODID: r.ISVProdID, ISVSVN: r.ISVSVN,
		Attributes: r.Attributes.String(), MISCSELECT: r.MiscSelect.String(),
		ConfigID: r.ConfigID.String(), ConfigSVN: r.ConfigSVN,
	}
}

func tdxClaims(c *attest.Claims, r *TDReport) {
	c.Debug = r.Debug
	c.ReportData = [64]byte(r.ReportData)
	c.TDX = &attest.TDXClaims{
		MRTD: r.MRTD.String(), MRConfigID: r.MRConfigID.String(), MROwner: r.MROwner.String(),
		MROwnerConfig: r.MROwnerConfig.String(), MRSEAM: r.MRSEAM.String(), MRServiceTD: r.MRServiceTD.String(),
		TDAttributes: r.TDAttributes.String(), XFAM: r.XFAM.String(), TEETCBSVN: r.TEETCBSVN.String(),
		TEETCBSVN2: r.TEETCBSVN2.String(),
	}
	for i, rtmr := range r.RTMR {
		c.TDX.RTMR[i] = rtmr.String()
	}
}

// notSupported says which half of the TCB no level covers.
func notSupported(c *attest.Claims) *attest.Refusal {
	refusal := &attest.Refusal{Claims: c}
	for _, half := range []struct {
		what   string
		status attest.TCBStatus
	}{{"platform", c.PlatformStatus}, {"TDX module", c.ModuleStatus}, {"quoting enclave", c.QEStatus}} {
		if half.status == attest.NotSupported {
			refusal.Reasons = append(refusal.Reasons, attest.Reason{Code: attest.CodeNotSupported, Got: string(half.status),
				Text: fmt.Sprintf("the TCB of the %s is below the lowest level that Intel publishes: it has no status; update the "+
					"machine%s", half.what, shortText(c.Short))})
		}
	}
	return refusal
}

func shortText(short []attest.ShortComponent) string {
	text := ""
	for _, s := range short {
		text += fmt.Sprintf(", %s from %d to %d", s.Name, s.Got, s.Want)
	}
	return text
}
