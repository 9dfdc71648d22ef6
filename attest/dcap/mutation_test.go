// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
)

// mutation is one thing wrong in evidence that is otherwise signed as it should be, and the code of the refusal.
type mutation struct {
	name   string
	tee    attest.TEE
	change func(*forge)
	opts   func(*dcap.Options)
	want   string
}

// certChange edits one certificate before it is signed.
func certChange(role string, edit func(*x509.Certificate)) func(*forge) {
	return func(f *forge) {
		f.certTemplate = func(name string, c *x509.Certificate) {
			if name == role {
				edit(c)
			}
		}
	}
}

// col edits the collateral after it was signed.
func col(edit func(*dcap.Collateral)) func(*forge) {
	return func(f *forge) { f.afterSign = edit }
}

// without drops an item of the PCK extension.
func withoutItem(n int) func(*forge) {
	return func(f *forge) {
		items := pckItems(5, 13)
		f.extension = append(items[:n:n], items[n+1:]...)
	}
}

func info(key string, value any) func(*forge) { return func(f *forge) { f.info[key] = value } }

func identity(key string, value any) func(*forge) { return func(f *forge) { f.identity[key] = value } }

const (
	sgx = attest.SGX
	tdx = attest.TDX
)

func mutations() []mutation {
	return slices.Concat(chainMutations(), crlMutations(), tcbInfoMutations(), identityMutations(), quoteMutations())
}

func chainMutations() []mutation {
	list := []mutation{
		{"other root key", sgx, nil, func(o *dcap.Options) { o.Roots = dcap.Roots{dcap.IntelRoot()} },
			attest.CodeUntrustedRoot},
		{"no root keys", sgx, nil, func(o *dcap.Options) { o.Roots = nil }, attest.CodeUntrustedRoot},
		{"PCK CA is no CA", sgx, certChange("ca", func(c *x509.Certificate) { c.IsCA = false }), nil, attest.CodePCKChain},
		{"PCK CA may not sign", sgx, certChange("ca", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), nil,
			attest.CodePCKChain},
		{"PCK is a CA", sgx, certChange("pck", func(c *x509.Certificate) { c.IsCA = true }), nil, attest.CodePCKChain},
		{"PCK may not sign", sgx, certChange("pck", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
			nil,
			attest.CodePCKChain},
		{"PCK with unknown critical extension", sgx, certChange("pck", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true})
		}), nil, attest.CodePCKChain},
		{"PCK of an unknown CA", sgx, func(f *forge) { f.caName = "Test SGX CA" }, nil, attest.CodePCKCertificate},
		{"PCK without extension", sgx, certChange("pck", func(c *x509.Certificate) { c.ExtraExtensions = nil }), nil,
			attest.CodePCKCertificate},
		{"PCK with an item twice", sgx, func(f *forge) {
			f.extension = append(pckItems(5, 13), item(append(sgxOID, 4), make([]byte, 6)))
		}, nil, attest.CodePCKCertificate},
		{"PCK with a negative SVN", sgx, func(f *forge) { f.setSVN(-1, 13) }, nil, attest.CodePCKCertificate},
		{"PCK with an SVN above a byte", sgx, func(f *forge) { f.setSVN(256, 13) }, nil, attest.CodePCKCertificate},
		{"PCK expired", sgx, certChange("pck", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(0, 1, 0) }), nil,
			attest.CodeExpired},
		{"PCK not yet valid", sgx, certChange("pck", func(c *x509.Certificate) {
			c.NotBefore = c.NotAfter.AddDate(0, -1,
				0)
		}),
			nil, attest.CodeNotYetValid},
		{"PCK CA expired", sgx, certChange("ca", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(0, 1, 0) }),
			nil,
			attest.CodeExpired},
		{"root expired", sgx, certChange("root", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(0, 1, 0) }),
			nil,
			attest.CodeExpired},
		{"certification data is no chain", sgx, func(f *forge) { f.certType = 3 }, nil, attest.CodeCertificationData},
		{"certification data of unknown type", sgx, func(f *forge) { f.certType = 9 }, nil, attest.CodeCertificationData},
	}
	for i := range 5 { // PPID, TCB, PCE-ID, FMSPC, type
		list = append(list, mutation{"PCK without item " + string(rune('1'+i)), sgx, withoutItem(i), nil,
			attest.CodePCKCertificate})
	}
	return list
}

func crlMutations() []mutation {
	return []mutation{
		{"PCK revoked", sgx, func(f *forge) { f.revokedPCK = []*big.Int{big.NewInt(serialPCK)} }, nil, attest.CodeRevoked},
		{"PCK CA revoked", sgx, func(f *forge) { f.revokedRoot = []*big.Int{big.NewInt(serialCA)} }, nil, attest.CodeRevoked},
		{"TCB signing revoked", sgx, func(f *forge) { f.revokedRoot = []*big.Int{big.NewInt(serialSigning)} }, nil,
			attest.CodeRevoked},
		{"PCK with a high serial number revoked", sgx, func(f *forge) {
			serial := new(big.Int).Lsh(big.NewInt(0xfe), 152)
			certChange("pck", func(c *x509.Certificate) { c.SerialNumber = serial })(f)
			f.revokedPCK = []*big.Int{serial}
		}, nil, attest.CodeRevoked},
		{"PCK CRL missing", sgx, col(func(c *dcap.Collateral) { c.PCKCRL = nil }), nil, attest.CodeCRLMissing},
		{"root CRL missing", sgx, col(func(c *dcap.Collateral) { c.RootCACRL = nil }), nil, attest.CodeCRLMissing},
		{"PCK CRL is the root CRL", sgx, col(func(c *dcap.Collateral) { c.PCKCRL = c.RootCACRL }), nil, attest.CodePCKCRL},
		{"root CRL is the PCK CRL", sgx, col(func(c *dcap.Collateral) { c.RootCACRL = c.PCKCRL }), nil, attest.CodeRootCRL},
		{"PCK CRL is garbage", sgx, col(func(c *dcap.Collateral) { c.PCKCRL = []byte("garbage") }), nil, attest.CodePCKCRL},
		{"root CRL is cut", sgx, col(func(c *dcap.Collateral) { c.RootCACRL = c.RootCACRL[:60] }), nil, attest.CodeRootCRL},
		{"PCK CRL tampered", sgx, col(func(c *dcap.Collateral) { c.PCKCRL[len(c.PCKCRL)/2] ^= 1 }), nil, attest.CodePCKCRL},
		{"root CRL tampered", sgx, col(func(c *dcap.Collateral) { c.RootCACRL[len(c.RootCACRL)-1] ^= 1 }), nil,
			attest.CodeRootCRL},
		{"CRLs expired", sgx, func(f *forge) {
			f.crlTemplate = func(l *x509.RevocationList) { l.NextUpdate = f.now.AddDate(0, 0, -1) }
		}, nil, attest.CodeExpired},
		{"CRLs not yet valid", sgx, func(f *forge) {
			f.crlTemplate = func(l *x509.RevocationList) { l.ThisUpdate = f.now.AddDate(0, 0, 1) }
		}, nil, attest.CodeNotYetValid},
		{"CRL with a critical extension", sgx, func(f *forge) {
			f.crlTemplate = func(l *x509.RevocationList) { // deltaCRLIndicator
				l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1,
					1}}}
			}
		}, nil, attest.CodeRootCRL},
		{"missing CRLs allowed, but bad", sgx, col(func(c *dcap.Collateral) { c.PCKCRL = c.RootCACRL }),
			func(o *dcap.Options) { o.AllowMissingCRLs = true }, attest.CodePCKCRL},
	}
}

func tcbInfoMutations() []mutation {
	return []mutation{
		{"no collateral", sgx, col(func(c *dcap.Collateral) { *c = dcap.Collateral{} }), nil, attest.CodeCollateral},
		{"TCB info edited", sgx, col(func(c *dcap.Collateral) {
			c.TCBInfo = strings.Replace(c.TCBInfo, `"svn":5`, `"svn":6`, 1)
		}), nil, attest.CodeTCBInfoSignature},
		{"TCB info with a space", sgx, col(func(c *dcap.Collateral) { c.TCBInfo += " " }), nil, attest.CodeTCBInfoSignature},
		{"TCB info signature of the identity", sgx, col(func(c *dcap.Collateral) {
			c.TCBInfoSignature = c.QEIdentitySignature
		}), nil, attest.CodeTCBInfoSignature},
		{"TCB info signature cut", sgx, col(func(c *dcap.Collateral) { c.TCBInfoSignature = c.TCBInfoSignature[2:] }), nil,
			attest.CodeTCBInfoSignature},
		{"TCB info signature zero", sgx, col(func(c *dcap.Collateral) { c.TCBInfoSignature = zeros(64) }), nil,
			attest.CodeTCBInfoSignature},
		{"TCB info for another FMSPC", sgx, info("fmspc", "000000000000"), nil, attest.CodeTCBInfoMismatch},
		{"TCB info for another PCE", sgx, info("pceId", "0001"), nil, attest.CodeTCBInfoMismatch},
		{"TCB info for another TEE", tdx, func(f *forge) { f.info = tcbInfo("SGX") }, nil, attest.CodeTCBInfoMismatch},
		{"TCB info of unknown version", sgx, info("version", 4), nil, attest.CodeTCBInfoFormat},
		{"TCB info of unknown type", sgx, info("tcbType", 1), nil, attest.CodeTCBInfoFormat},
		{"TCB info without levels", sgx, info("tcbLevels", []any{}), nil, attest.CodeTCBInfoFormat},
		{"TCB info of another id", sgx, info("id", "SEV"), nil, attest.CodeTCBInfoFormat},
		{"TCB info expired", sgx, info("nextUpdate", "2026-03-01T11:59:59Z"), nil, attest.CodeExpired},
		{"TCB info not yet valid", sgx, info("issueDate", "2026-03-01T12:00:01Z"), nil, attest.CodeNotYetValid},
		{"TCB signing expired", sgx, certChange("signing", func(c *x509.Certificate) {
			c.NotAfter = c.NotBefore.AddDate(0, 1,
				0)
		}),
			nil, attest.CodeExpired},
		{"TCB signing of another name", sgx, certChange("signing", func(c *x509.Certificate) { c.Subject.CommonName = "x" }),
			nil,
			attest.CodeTCBSigningChain},
		{"TCB signing is a CA", sgx, certChange("signing", func(c *x509.Certificate) { c.IsCA = true }), nil,
			attest.CodeTCBSigningChain},
		{"TCB signing chain missing", sgx, col(func(c *dcap.Collateral) { c.TCBInfoIssuerChain = "" }), nil,
			attest.CodeTCBSigningChain},
		{"below all levels", sgx, func(f *forge) { f.setSVN(1, 13) }, nil, attest.CodeNotSupported},
		{"PCESVN below all levels", sgx, func(f *forge) { f.setSVN(5, 4) }, nil, attest.CodeNotSupported},
	}
}

func identityMutations() []mutation {
	return []mutation{
		{"QE identity edited", sgx, col(func(c *dcap.Collateral) {
			c.QEIdentity = strings.Replace(c.QEIdentity, `"isvsvn":8`, `"isvsvn":1`, 1)
		}), nil, attest.CodeQEIdentitySign},
		{"QE identity signature tampered", sgx, col(func(c *dcap.Collateral) {
			c.QEIdentitySignature = c.TCBInfoSignature
		}), nil, attest.CodeQEIdentitySign},
		{"QE identity expired", sgx, identity("nextUpdate", "2026-02-28T00:00:00Z"), nil, attest.CodeExpired},
		{"QE identity not yet valid", sgx, identity("issueDate", "2026-03-02T00:00:00Z"), nil, attest.CodeNotYetValid},
		{"QE identity of version 1", sgx, identity("version", 1), nil, attest.CodeQEIdentityFormat},
		{"QE identity of QVE", sgx, identity("id", "QVE"), nil, attest.CodeQEIdentityFormat},
		{"QE identity of TDX for SGX", sgx, identity("id", "TD_QE"), nil, attest.CodeQEIdentity},
		{"QE identity of SGX for TDX", tdx, func(f *forge) { f.identity["id"] = "QE" }, nil, attest.CodeQEIdentity},
		{"QE of another signer", sgx, identity("mrsigner", zeros(32)), nil, attest.CodeQEIdentity},
		{"QE of another product", sgx, identity("isvprodid", 2), nil, attest.CodeQEIdentity},
		{"QE of other attributes", sgx, identity("attributes", "11000000000000000000000000000000"), nil,
			attest.CodeQEIdentity},
		{"QE of other MISCSELECT", sgx, identity("miscselect", "01000000"), nil, attest.CodeQEIdentity},
		{"QE in debug mode", sgx, func(f *forge) {
			f.qeReport[48] |= 1 << 1
			f.identity["attributesMask"] = zeros(16)
			f.identity["attributes"] = zeros(16)
		}, nil, attest.CodeQEIdentity},
		{"QE below all levels", sgx, func(f *forge) { f.qeReport[258] = 2 }, nil, attest.CodeNotSupported},
		{"QE level with unknown status", sgx, identity("tcbLevels", []any{enclaveLevel(0, "Fine", "2024-01-01")}), nil,
			attest.CodeQEIdentityFormat},
	}
}

func quoteMutations() []mutation {
	return []mutation{
		{"QE report data without zeros", sgx, func(f *forge) {
			f.qeData = func(hash []byte) []byte { return append(hash, bytes.Repeat([]byte{1}, 32)...) }
		}, nil, attest.CodeQEReportData},
		{"attestation key not bound", sgx, func(f *forge) {
			f.qeData = func([]byte) []byte { return make([]byte, 64) }
		}, nil, attest.CodeQEReportData},
		{"quote version 6", sgx, func(f *forge) { f.version = 6 }, nil, attest.CodeQuoteFormat},
		{"quote version 3 of TDX", tdx, func(f *forge) { f.version = 3 }, nil, attest.CodeQuoteFormat},
		{"TD report of a wrong size", tdx, func(f *forge) { f.version, f.body = 5, f.body[:384] }, nil,
			attest.CodeQuoteFormat},
		{"module of another signer", tdx, func(f *forge) { f.body[64] = 1 }, nil, attest.CodeModule},
		{"module with attributes", tdx, func(f *forge) { f.body[112] = 1 }, nil, attest.CodeModule},
		{"module of unknown major version", tdx, func(f *forge) { f.body[1] = 2 }, nil, attest.CodeModule},
		{"module of major version 0, another signer", tdx, func(f *forge) {
			f.body[0], f.body[1], f.body[64] = 5, 0, 1
		}, nil, attest.CodeModule},
		{"module below all levels", tdx, func(f *forge) { f.body[0] = 1 }, nil, attest.CodeNotSupported},
		{"TDX component below all levels", tdx, func(f *forge) { f.body[2] = 1 }, nil, attest.CodeNotSupported},
	}
}

// TestMutations wants each mutation refused for its reason, cold and with a cache that knows the good evidence.
func TestMutations(t *testing.T) {
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			f := newForge(t, m.tee)
			if f.tee == attest.TDX { // components 0 and 1 are the module's; the others are at the newest level
				for i := 2; i < 16; i++ {
					f.body[i] = 5
				}
			}
			good, goodCol, opts := f.make(t)
			opts.Cache = dcap.NewChainCache(10)
			if _, err := dcap.Verify(good, goodCol, opts); err != nil {
				t.Fatalf("the unchanged evidence is refused: %v", err)
			}
			if m.change != nil {
				m.change(f)
			}
			quote, col, _ := f.make(t)
			if m.opts != nil {
				m.opts(&opts)
			}
			for range 2 {
				claims, err := dcap.Verify(quote, col, opts)
				wantRefusal(t, claims, err, m.want)
			}
		})
	}
}

func wantRefusal(t *testing.T, claims *attest.Claims, err error, code string) {
	t.Helper()
	var refusal *attest.Refusal
	if !errors.As(err, &refusal) || claims != nil {
		t.Fatalf("accepted or not a refusal: %v", err)
	}
	if len(refusal.Reasons) == 0 || refusal.Reasons[0].Code != code {
		t.Errorf("refused, but not for %s first: %+v", code, refusal.Reasons)
	}
	if (refusal.Claims != nil) != (code == attest.CodeNotSupported) {
		t.Errorf("claims in the refusal: %v", refusal.Claims)
	}
}

// TestForeignSignatures swaps signers that exist, which certificates alone would not show.
func TestForeignSignatures(t *testing.T) {
	f := newForge(t, attest.SGX)
	quote, collateral, opts := f.make(t)
	other := newForge(t, attest.SGX)
	otherQuote, otherCol, _ := other.make(t)

	t.Run("CA of the same name under another root key", func(t *testing.T) {
		claims, err := dcap.Verify(otherQuote, collateral, opts)
		wantRefusal(t, claims, err, attest.CodeUntrustedRoot)
	})
	t.Run("two trusted roots do not mix", func(t *testing.T) {
		mixed := *collateral
		both := opts
		both.Roots = dcap.Roots{&f.root.PublicKey, &other.root.PublicKey}
		mixed.QEIdentity, mixed.QEIdentitySignature = otherCol.QEIdentity, otherCol.QEIdentitySignature
		mixed.QEIdentityIssuerChain = otherCol.QEIdentityIssuerChain
		both.AllowMissingCRLs, mixed.RootCACRL = true, nil
		claims, err := dcap.Verify(quote, &mixed, both)
		wantRefusal(t, claims, err, attest.CodeUntrustedRoot)

		mixed = *otherCol
		mixed.RootCACRL, mixed.PCKCRL = nil, nil
		claims, err = dcap.Verify(quote, &mixed, both)
		wantRefusal(t, claims, err, attest.CodeUntrustedRoot)
	})
	t.Run("root certificate with the trusted key but not signed by it", func(t *testing.T) {
		tampered := *collateral
		block, rest := pem.Decode([]byte(tampered.TCBInfoIssuerChain))
		root, _ := pem.Decode(rest)
		root.Bytes[len(root.Bytes)-1] ^= 1
		tampered.TCBInfoIssuerChain = string(pem.EncodeToMemory(block)) + string(pem.EncodeToMemory(root))
		claims, err := dcap.Verify(quote, &tampered, opts)
		wantRefusal(t, claims, err, attest.CodeUntrustedRoot)
	})
	t.Run("TCB info signed by the PCK, with its chain", func(t *testing.T) {
		tampered := *collateral
		i := bytes.Index(quote, []byte("-----BEGIN"))
		tampered.TCBInfoIssuerChain = string(quote[i:])
		tampered.TCBInfoSignature = hex.EncodeToString(sign(t, f.pck, []byte(tampered.TCBInfo)))
		claims, err := dcap.Verify(quote, &tampered, opts)
		wantRefusal(t, claims, err, attest.CodeTCBSigningChain)
	})
}

// TestCacheTrust checks that a cache shared between options does not carry trust from one to the other, nor past time.
func TestCacheTrust(t *testing.T) {
	f := newForge(t, attest.SGX)
	quote, col, opts := f.make(t)
	opts.Cache = dcap.NewChainCache(10)
	if _, err := dcap.Verify(quote, col, opts); err != nil {
		t.Fatal(err)
	}
	if got := opts.Cache.Len(); got != 2 {
		t.Fatalf("%d entries in the cache, want chain and collateral", got)
	}
	other := opts
	other.Roots = dcap.Roots{&f.otherRoot.PublicKey}
	claims, err := dcap.Verify(quote, col, other)
	wantRefusal(t, claims, err, attest.CodeUntrustedRoot)

	later := opts
	later.Time = f.now.AddDate(0, 2, 0)
	claims, err = dcap.Verify(quote, col, later)
	wantRefusal(t, claims, err, attest.CodeExpired)

	lax := opts
	lax.AllowMissingCRLs = true
	without := *col
	without.PCKCRL, without.RootCACRL = nil, nil
	if _, err := dcap.Verify(quote, &without, lax); err != nil {
		t.Fatalf("missing CRLs, which are allowed: %v", err)
	}
	claims, err = dcap.Verify(quote, &without, opts)
	wantRefusal(t, claims, err, attest.CodeCRLMissing)
}

func TestCacheIsBounded(t *testing.T) {
	cache := dcap.NewChainCache(3)
	for range 4 {
		f := newForge(t, attest.SGX)
		quote, col, opts := f.make(t)
		opts.Cache = cache
		if _, err := dcap.Verify(quote, col, opts); err != nil {
			t.Fatal(err)
		}
	}
	if got := cache.Len(); got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
}

// TestWindowsAreInclusive: valid from issueDate to nextUpdate, both included.
func TestWindowsAreInclusive(t *testing.T) {
	f := newForge(t, attest.SGX)
	quote, col, opts := f.make(t)
	for at, want := range map[string]bool{
		"2026-02-20T23:59:59Z": false, "2026-02-21T00:00:00Z": true, // QE identity is the later one
		"2026-03-20T00:00:00Z": true, "2026-03-20T00:00:01Z": false, // TCB info is the earlier one
	} {
		opts.Time, _ = time.Parse(time.RFC3339, at)
		if _, err := dcap.Verify(quote, col, opts); (err == nil) != want {
			t.Errorf("at %s: %v", at, err)
		}
	}
}
