// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"

	"github.com/marblerun/marblerun/attest"
)

// pcsReplies answers go-tdx-guest's requests from the collateral of a case, as Intel's service would.
type pcsReplies struct {
	quoteCase
	chains [3]string // for PCK CRL, TCB info, identity; escaped as in the service's headers
}

func newReplies(c quoteCase) pcsReplies {
	pckChain := c.col.PCKCRLIssuerChain
	if chain := quoteChain(c.quote); pckChain == "" && len(chain) == 3 {
		for _, cert := range chain[1:] {
			pckChain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
		}
	}
	r := pcsReplies{quoteCase: c}
	for i, chain := range []string{pckChain, c.col.TCBInfoIssuerChain, c.col.QEIdentityIssuerChain} {
		r.chains[i] = url.QueryEscape(strings.TrimRight(chain, " \n\x00") + "\n")
	}
	return r
}

// Get implements trust.HTTPSGetter.
func (r pcsReplies) Get(address string) (map[string][]string, []byte, error) {
	signed := func(name, body, signature string) []byte {
		return fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, name, body, signature)
	}
	header := func(name string, chain int) map[string][]string { return map[string][]string{name: {r.chains[chain]}} }
	switch {
	case strings.Contains(address, "/pckcrl?"):
		der, err := r.col.PCKCRL.DER()
		return header("Sgx-Pck-Crl-Issuer-Chain", 0), der, err
	case strings.Contains(address, "/tcb?"):
		return header("Tcb-Info-Issuer-Chain", 1), signed("tcbInfo", r.col.TCBInfo, r.col.TCBInfoSignature), nil
	case strings.HasSuffix(address, "/qe/identity"):
		return header("Sgx-Enclave-Identity-Issuer-Chain", 2),
			signed("enclaveIdentity", r.col.QEIdentity, r.col.QEIdentitySignature), nil
	case strings.HasSuffix(address, ".der") || strings.HasSuffix(address, ".crl"):
		der, err := r.col.RootCACRL.DER()
		return nil, der, err
	}
	return nil, nil, fmt.Errorf("there is nothing at %s", address)
}

// tdxGuest verifies the case with go-tdx-guest.
func tdxGuest(c quoteCase) error { return newReplies(c).verify() }

func (r pcsReplies) verify() error {
	roots := x509.NewCertPool()
	if r.root != nil {
		roots.AddCert(r.root)
	}
	return verify.RawTdxQuote(r.quote, &verify.Options{GetCollateral: true, CheckRevocations: r.crls, Getter: r, Now: r.at,
		TrustedRoots: roots})
}

// tdxGuestAnswer is what go-tdx-guest must say if it agrees. It has no status to give, but accepts UpToDate only and
// names in its error the first half that is not: the module before the platform before the quoting enclave (FORMATS §7:
// so the platform's status is lost if the module has one). "" is that it accepts, "refused" any refusal for another
// reason than the TCB.
func tdxGuestAnswer(claims *attest.Claims, err error) string {
	var refusal *attest.Refusal
	if errors.As(err, &refusal) {
		if claims = refusal.Claims; claims == nil {
			return "refused"
		}
	}
	halves := []struct {
		name   string
		status attest.TCBStatus
	}{{"module ", claims.ModuleStatus}, {"platform ", claims.PlatformStatus}, {"QE ", claims.QEStatus}}
	if claims.PlatformStatus == attest.NotSupported {
		return "platform NotSupported"
	}
	for _, half := range halves {
		if half.status != "" && half.status != attest.UpToDate {
			return half.name + string(half.status)
		}
	}
	return ""
}

// tdxGuestSaid reads go-tdx-guest's error in the words of tdxGuestAnswer.
func tdxGuestSaid(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	_, found, _ := strings.Cut(text, "found ")
	found = strings.Trim(found, `"`)
	switch {
	case strings.Contains(text, "no matching TCB level"):
		return "platform NotSupported"
	case strings.Contains(text, "could not find a TDX Module Identity TCB Level"):
		return "module NotSupported"
	case errors.Is(err, verify.ErrTcbStatus) || strings.Contains(text, verify.ErrTcbStatus.Error()):
		return "QE NotSupported"
	case strings.Contains(text, "TDX Module TCB Status is not"):
		return "module " + found
	case strings.Contains(text, "QE Identity reported by Intel PCS failed TCB status check"):
		return "QE " + found
	case strings.Contains(text, "TCB Status is not"):
		return "platform " + found
	}
	return "refused"
}

// difference is a known one: to which cases it applies, what go-tdx-guest says to them, a part of its error, and why.
type difference struct {
	why     string
	applies func(quoteCase) bool
	said    string
	part    string
}

func vectorDifferences() []difference {
	return []difference{
		{
			"go-tdx-guest reads no quotes of version 5",
			func(c quoteCase) bool { return c.quote[0] == 5 }, "refused", "quote format not supported",
		},
		{
			"go-tdx-guest compares the FMSPC in hex digits as text; Intel has served it in lower and in upper case",
			func(c quoteCase) bool { return upperFMSPC.MatchString(c.col.TCBInfo) },
			"refused", "FMSPC from PCK Certificate",
		},
	}
}

var upperFMSPC = regexp.MustCompile(`"fmspc":\s*"[0-9]*[A-F]`)

// TestTDXVectors: go-tdx-guest agrees on every TDX quote from real hardware, about the half of the TCB that it names
// and about the facts, but for vectorDifferences.
func TestTDXVectors(t *testing.T) {
	differences := vectorDifferences()
	used, agreed := make([]int, len(differences)), 0
	for _, dir := range folders(t, vectors(t), "dcap", "tdx-*") {
		c := loadQuote(t, dir)
		t.Run(c.name, func(t *testing.T) {
			claims, err := c.verify(nil)
			peer := tdxGuest(c)
			want, part := tdxGuestAnswer(claims, err), ""
			d := slices.IndexFunc(differences, func(d difference) bool { return d.applies(c) })
			if d >= 0 {
				used[d]++
				want, part = differences[d].said, differences[d].part
			} else {
				agreed++
			}
			if said := tdxGuestSaid(peer); said != want || part != "" && !strings.Contains(fmt.Sprint(peer), part) {
				t.Errorf("we say %v, go-tdx-guest should say %q, but says %q: %v", err, want, said, peer)
			}
			if claims != nil && c.quote[0] == 4 {
				sameTD(t, c, claims)
			}
		})
	}
	t.Logf("agreement on %d quotes", agreed)
	for i, d := range differences {
		t.Logf("known difference on %d quotes: %s", used[i], d.why)
		if used[i] == 0 {
			t.Error("no vector shows this difference: mend the table")
		}
	}
}

// TestTDXTampered: whatever byte of a real quote is flipped, both refuse.
func TestTDXTampered(t *testing.T) {
	c := loadQuote(t, folders(t, vectors(t), "dcap", "tdx-v4-00806F050000-00b2526a-eval17-20250707")[0])
	if err := tdxGuest(c); err != nil {
		t.Fatalf("go-tdx-guest refuses the genuine quote: %v", err)
	}
	genuine := c.quote
	for at := 0; at < 48+584+4+1100; at += 37 {
		c.quote = bytes.Clone(genuine)
		c.quote[at] ^= 0x10
		_, err := c.verify(nil)
		peer := tdxGuest(c)
		if err == nil || peer == nil {
			t.Errorf("byte %d flipped: we say %v, go-tdx-guest %v", at, err, peer)
		}
	}
}

// sameTD compares the facts that both find.
func sameTD(t *testing.T, c quoteCase, claims *attest.Claims) {
	t.Helper()
	quote, err := abi.QuoteToProto(c.quote)
	if err != nil {
		t.Fatal(err)
	}
	exts, err := pcs.PckCertificateExtensions(quoteChain(c.quote)[0])
	if err != nil {
		t.Fatal(err)
	}
	body, d := quote.(*pb.QuoteV4).GetTdQuoteBody(), claims.TDX
	facts := []struct {
		name, ours string
		theirs     []byte
	}{
		{"MRTD", d.MRTD, body.GetMrTd()}, {"MRCONFIGID", d.MRConfigID, body.GetMrConfigId()},
		{"MROWNER", d.MROwner, body.GetMrOwner()}, {"MROWNERCONFIG", d.MROwnerConfig, body.GetMrOwnerConfig()},
		{"MRSEAM", d.MRSEAM, body.GetMrSeam()}, {"TDATTRIBUTES", d.TDAttributes, body.GetTdAttributes()},
		{"XFAM", d.XFAM, body.GetXfam()}, {"TEE_TCB_SVN", d.TEETCBSVN, body.GetTeeTcbSvn()},
		{"REPORTDATA", hex.EncodeToString(claims.ReportData[:]), body.GetReportData()},
		{"RTMRs", strings.Join(d.RTMR[:], ""), bytes.Join(body.GetRtmrs(), nil)},
	}
	for _, fact := range facts {
		if theirs := hex.EncodeToString(fact.theirs); theirs != fact.ours {
			t.Errorf("%s: we say %s, go-tdx-guest %s", fact.name, fact.ours, theirs)
		}
	}
	if exts.FMSPC != claims.Machine.FMSPC || exts.PPID != claims.Machine.PPID {
		t.Errorf("machine: we say %v, go-tdx-guest %s %s", claims.Machine, exts.FMSPC, exts.PPID)
	}
}
