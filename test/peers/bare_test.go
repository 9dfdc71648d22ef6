// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/marblerun/marblerun/attest/dcap"
)

// bare is a signature verification with nothing around it: key, digest and signature are at hand, not even the hash is
// computed again.
type bare struct {
	what  string // the algorithm
	holds func() bool
}

// bares are those that a piece of evidence needs: cold includes warm, which are needed whatever is remembered.
type bares struct{ cold, warm []bare }

func run(all []bare) error {
	for _, b := range all {
		if !b.holds() {
			return fmt.Errorf("a signature by %s does not hold", b.what)
		}
	}
	return nil
}

// counted lists algorithms with how many of each, e.g. "2 RSA-4096 + 1 P-384".
func counted(all []bare) string {
	count, text := map[string]int{}, ""
	for _, b := range all {
		count[b.what]++
	}
	for i := len(all) - 1; i >= 0; i-- {
		what := all[i].what
		if n := count[what]; n > 0 {
			text = fmt.Sprintf(" + %d %s", n, what) + text
			count[what] = 0
		}
	}
	return text[min(3, len(text)):]
}

// bareQuote lists what a quote needs: PCK certificate, its CA, PCK CRL, root CRL, TCB signing certificate, TCB info, QE
// identity, QE report, quote; and the root certificate if its signature is not known beforehand as that of Intel's is.
func bareQuote(t testing.TB, c quoteCase) bares {
	t.Helper()
	chain, signing := quoteChain(c.quote), parseChain([]byte(c.col.TCBInfoIssuerChain))
	leaf, ca, root := chain[0], chain[1], chain[2]
	all := []bare{bareCert(t, leaf, ca), bareCert(t, ca, root), bareCert(t, signing[0], root)}
	if !dcap.IntelRoot().Equal(root.PublicKey) {
		all = append(all, bareCert(t, root, root))
	}
	if c.col.QEIdentityIssuerChain != c.col.TCBInfoIssuerChain {
		t.Fatalf("%s: two signing chains, which are not counted here", c.name)
	}
	all = append(all, bareCRL(t, c.col.PCKCRL, ca), bareCRL(t, c.col.RootCACRL, root))
	key := signing[0].PublicKey.(*ecdsa.PublicKey)
	for document, signature := range map[string]string{c.col.TCBInfo: c.col.TCBInfoSignature,
		c.col.QEIdentity: c.col.QEIdentitySignature} {
		raw, err := hex.DecodeString(signature)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bareRaw(key, []byte(document), raw))
	}
	q, signed, qeReport := signedParts(t, c.quote)
	attestKey, err := ecdsa.ParseUncompressedPublicKey(key.Curve, append([]byte{4}, q.Key...))
	if err != nil {
		t.Fatal(err)
	}
	warm := []bare{bareRaw(leaf.PublicKey.(*ecdsa.PublicKey), qeReport, q.QESignature),
		bareRaw(attestKey, signed, q.Signature)}
	return bares{cold: append(all, warm...), warm: warm}
}

// signedParts finds the signed bytes in a quote, FORMATS §1.5 and §1.6: header and body, and the QE's report.
func signedParts(t testing.TB, quote []byte) (q *dcap.Quote, signed, qeReport []byte) {
	t.Helper()
	q, err := dcap.ParseQuote(quote)
	if err != nil {
		t.Fatal(err)
	}
	end := 48 + 384
	switch {
	case q.Version == 5:
		end = 54 + int(binary.LittleEndian.Uint32(quote[50:54]))
	case q.TDX != nil:
		end = 48 + 584
	}
	at := end + 4 + 64 + 64
	if q.Version > 3 {
		at += 6
	}
	return q, quote[:end], quote[at : at+384]
}

func bareCert(t testing.TB, cert, parent *x509.Certificate) bare {
	t.Helper()
	switch key := parent.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return bareASN1(key, cert.RawTBSCertificate, cert.Signature)
	case *rsa.PublicKey:
		digest := sha512.Sum384(cert.RawTBSCertificate)
		return bare{fmt.Sprintf("RSA-%d", key.N.BitLen()), func() bool {
			return rsa.VerifyPSS(key, crypto.SHA384, digest[:], cert.Signature, nil) == nil
		}}
	}
	t.Fatalf("a key of type %T", parent.PublicKey)
	return bare{}
}

func bareCRL(t testing.TB, form dcap.CRL, by *x509.Certificate) bare {
	t.Helper()
	der, err := form.DER()
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return bareASN1(by.PublicKey.(*ecdsa.PublicKey), list.RawTBSRevocationList, list.Signature)
}

func bareASN1(key *ecdsa.PublicKey, message, signature []byte) bare {
	digest := sha256.Sum256(message)
	return bare{key.Params().Name, func() bool { return ecdsa.VerifyASN1(key, digest[:], signature) }}
}

// bareRaw takes a signature r ‖ s, big endian.
func bareRaw(key *ecdsa.PublicKey, message, signature []byte) bare {
	digest := sha256.Sum256(message)
	return bareNumbers(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

func bareNumbers(key *ecdsa.PublicKey, digest []byte, r, s *big.Int) bare {
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	return bare{key.Params().Name, func() bool { return err == nil && ecdsa.VerifyASN1(key, digest, signature) }}
}

// bareReport lists what an SNP report without CRL needs: VEK certificate, intermediate, report.
func bareReport(t testing.TB, c reportCase) bares {
	t.Helper()
	var certs []*x509.Certificate
	for _, raw := range [][]byte{c.certs.VEK, c.certs.ASK, c.certs.ARK} {
		if block, _ := pem.Decode(raw); block != nil {
			raw = block.Bytes
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	digest := sha512.Sum384(c.report[:0x2A0])
	number := func(at int) *big.Int {
		raw := slices.Clone(c.report[at : at+72])
		slices.Reverse(raw)
		return new(big.Int).SetBytes(raw)
	}
	warm := []bare{bareNumbers(certs[0].PublicKey.(*ecdsa.PublicKey), digest[:], number(0x2A0), number(0x2E8))}
	chain := []bare{bareCert(t, certs[0], certs[1]), bareCert(t, certs[1], certs[2])}
	return bares{cold: append(chain, warm...), warm: warm}
}
