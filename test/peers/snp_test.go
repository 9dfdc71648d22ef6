// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
)

// crlReply answers go-sev-guest's request for the CRL.
type crlReply []byte

// Get implements trust.HTTPSGetter.
func (r crlReply) Get(string) ([]byte, error) {
	if len(r) == 0 {
		return nil, errors.New("there is no CRL")
	}
	return r, nil
}

// newSEVGuest does what a user of go-sev-guest does once: it parses the roots.
func newSEVGuest(t testing.TB, c reportCase) verify.Options {
	t.Helper()
	root := trust.AMDRootCertsProduct(string(c.product))
	ask, err := trust.ParseCert(c.certs.ASK)
	if err != nil {
		t.Fatal(err)
	}
	ark, err := trust.ParseCert(c.certs.ARK)
	if err != nil {
		t.Fatal(err)
	}
	root.ProductCerts = &trust.ProductCerts{Ask: ask, Asvk: ask, Ark: ark}
	return verify.Options{CheckRevocations: len(c.certs.CRL) > 0, DisableCertFetching: true, Getter: crlReply(c.certs.CRL),
		Now: c.at, TrustedRoots: map[string][]*trust.AMDRootCerts{string(c.product): {root}}}
}

// sevGuest verifies the case with go-sev-guest.
func sevGuest(c reportCase, opts verify.Options) (*pb.Attestation, error) {
	report, err := abi.ReportToProto(c.report)
	if err != nil {
		return nil, err
	}
	info, err := abi.ParseSignerInfo(report.GetSignerInfo())
	if err != nil {
		return nil, err
	}
	vek := c.certs.VEK
	if block, _ := pem.Decode(vek); block != nil {
		vek = block.Bytes
	}
	chain := &pb.CertificateChain{AskCert: c.certs.ASK, ArkCert: c.certs.ARK, VcekCert: vek}
	if info.SigningKey == abi.VlekReportSigner {
		chain.VcekCert, chain.VlekCert = nil, vek
	}
	attestation := &pb.Attestation{Report: report, CertificateChain: chain}
	return attestation, verify.SnpAttestation(attestation, &opts)
}

// sevGuestValidates asks go-sev-guest's second package, which compares certificate and report, with the widest policy.
func sevGuestValidates(a *pb.Attestation) error {
	policy, err := abi.ParseSnpPolicy(a.GetReport().GetPolicy())
	if err != nil {
		return err
	}
	return validate.SnpAttestation(a, &validate.Options{GuestPolicy: policy, PermitProvisionalFirmware: true})
}

// sevDifference is how go-sev-guest is known to refuse all genuine reports of a product.
func sevDifference(p snp.Product) (part, why string) {
	if p == snp.Turin {
		return "not an AMD KDS OID: 1.3.6.1.4.1.3704.1.3.9",
			"go-sev-guest does not know fmcSPL, the component of the TCB that Turin's certificates add"
	}
	return "", ""
}

// TestSNPVectors: go-sev-guest agrees on every report from real hardware and on the facts, but for sevDifference.
func TestSNPVectors(t *testing.T) {
	for _, report := range folders(t, vectors(t), "snp", "*", "report.bin") {
		c := loadReport(t, report[:len(report)-len("/report.bin")])
		t.Run(c.name, func(t *testing.T) {
			claims, err := c.verify(nil)
			attestation, peer := sevGuest(c, newSEVGuest(t, c))
			if peer == nil {
				peer = sevGuestValidates(attestation)
			}
			if c.refused != (err != nil) {
				t.Errorf("refused should be %t: we say %v", c.refused, err)
			}
			part, why := sevDifference(c.product)
			if want := c.refused || part != ""; want != (peer != nil) || !strings.Contains(fmt.Sprint(peer), part) {
				t.Errorf("refused by go-sev-guest should be %t (%s), but it says %v", want, why, peer)
			}
			if claims != nil {
				sameGuest(t, c, claims)
			}
		})
	}
}

// TestSNPTampered: whatever byte of a real report is flipped, both refuse.
func TestSNPTampered(t *testing.T) {
	for _, name := range []string{"milan-vcek-trustee", "genoa-vcek-ms"} {
		c := loadReport(t, folders(t, vectors(t), "snp", name)[0])
		opts, genuine := newSEVGuest(t, c), c.report
		if _, err := sevGuest(c, opts); err != nil {
			t.Fatalf("%s: go-sev-guest refuses the genuine report: %v", name, err)
		}
		for at := 0; at < 0x2A0+144; at += 29 {
			c.report = bytes.Clone(genuine)
			c.report[at] ^= 0x10
			_, err := c.verify(nil)
			if _, peer := sevGuest(c, opts); err == nil || peer == nil {
				t.Errorf("%s: byte %#x flipped: we say %v, go-sev-guest %v", name, at, err, peer)
			}
		}
	}
}

// sameGuest compares the facts that both find.
func sameGuest(t *testing.T, c reportCase, claims *attest.Claims) {
	t.Helper()
	r, err := abi.ReportToProto(c.report)
	if err != nil {
		t.Fatal(err)
	}
	g := claims.SNP
	texts := []struct {
		name, ours string
		theirs     []byte
	}{
		{"MEASUREMENT", g.Measurement, r.GetMeasurement()}, {"HOST_DATA", g.HostData, r.GetHostData()},
		{"ID_KEY_DIGEST", g.IDKeyDigest, r.GetIdKeyDigest()}, {"FAMILY_ID", g.FamilyID, r.GetFamilyId()},
		{"AUTHOR_KEY_DIGEST", g.AuthorKeyDigest, r.GetAuthorKeyDigest()}, {"IMAGE_ID", g.ImageID, r.GetImageId()},
		{"REPORT_DATA", hex.EncodeToString(claims.ReportData[:]), r.GetReportData()},
	}
	for _, fact := range texts {
		if theirs := hex.EncodeToString(fact.theirs); theirs != fact.ours {
			t.Errorf("%s: we say %s, go-sev-guest %s", fact.name, fact.ours, theirs)
		}
	}
	if g.GuestSVN != r.GetGuestSvn() || g.Policy != r.GetPolicy() || g.VMPL != r.GetVmpl() ||
		g.PlatformInfo != r.GetPlatformInfo() {
		t.Errorf("we say %+v, go-sev-guest %v", g, r)
	}
	if c.product == snp.Turin {
		return // go-sev-guest has Milan's layout of the TCB version only
	}
	for _, tcb := range []struct {
		name   string
		ours   attest.SNPTCB
		theirs uint64
	}{{"REPORTED_TCB", g.Reported, r.GetReportedTcb()}, {"COMMITTED_TCB", g.Committed, r.GetCommittedTcb()},
		{"LAUNCH_TCB", g.Launch, r.GetLaunchTcb()}} {
		p := kds.DecomposeTCBVersion(kds.TCBVersion(tcb.theirs))
		theirs := attest.SNPTCB{Bootloader: p.BlSpl, TEE: p.TeeSpl, SNP: p.SnpSpl, Microcode: p.UcodeSpl}
		if theirs != tcb.ours {
			t.Errorf("%s: we say %+v, go-sev-guest %+v", tcb.name, tcb.ours, theirs)
		}
	}
}
