// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
)

// FuzzQuote: no quote that differs from the good one in what is signed or certified is accepted, whatever it looks
// like.
func FuzzQuote(f *testing.F) {
	var forges []*forge
	for _, make := range kinds() {
		forges = append(forges, make(f))
	}
	fixed := newForge(f, attest.SGX)
	_, col, opts := fixed.make(f)
	opts.Cache = dcap.NewChainCache(2)
	for _, forge := range forges {
		quote, _, _ := forge.make(f)
		f.Add(quote)
		f.Add(quote[:len(quote)/2])
	}
	f.Add(fixed.quote(f, make([]byte, 404)))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := dcap.ParseQuote(data)
		if (err == nil) != (q != nil) {
			t.Fatal(q, err)
		}
		if err == nil {
			if _, err := json.Marshal(q); err != nil {
				t.Errorf("printing: %v", err)
			}
			_, _ = q.PCK()
			_, _ = q.Platform()
		}
		_, _ = dcap.Needs(data)
		// None of the seeds is of this collateral's PKI, so nothing may pass.
		if claims, err := dcap.Verify(data, col, opts); err == nil {
			t.Errorf("accepted: %+v", claims)
		}
	})
}

// FuzzCollateral: what is read can be written and read again.
func FuzzCollateral(f *testing.F) {
	fixed := newForge(f, attest.TDX)
	quote, col, opts := fixed.make(f)
	f.Add([]byte(marshal(f, col)))
	f.Add([]byte(`{"tcb_info":{"a":1},"qe_identity":{"enclaveIdentity":{},"signature":"00"},"pck_crl":"3003020100"}`))
	f.Add([]byte(`{"tcb_info":{"a":1},"qe_identity":{"enclaveIdentity":{},"signature":"00"},"pck_crl":"e003020100"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := dcap.ParseCollateral(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := dcap.ParseCollateral(text)
		if err != nil {
			t.Fatal(err)
		}
		if got.TCBInfo == again.TCBInfo && len(got.PCKCRL) != len(again.PCKCRL) {
			t.Error("PCK CRL changed when written")
		}
		_, err = dcap.Verify(quote, got, opts)
		var refusal *attest.Refusal
		if err != nil && (!errors.As(err, &refusal) || len(refusal.Reasons) == 0) {
			t.Errorf("refusal without reason: %v", err)
		}
	})
}

// FuzzSignedTCBInfo signs whatever the fuzzer makes of TCB info: with signatures out of the way, nothing may panic, and
// claims always have a status.
func FuzzSignedTCBInfo(f *testing.F) {
	fixed := newForge(f, attest.TDX)
	newestTDX(fixed, 5)
	quote, col, opts := fixed.make(f)
	f.Add(col.TCBInfo, col.QEIdentity)
	f.Fuzz(func(t *testing.T, info, identity string) {
		changed := *col
		changed.TCBInfo, changed.QEIdentity = info, identity
		changed.TCBInfoSignature = dcap.Hex(sign(t, fixed.signing, []byte(info))).String()
		changed.QEIdentitySignature = dcap.Hex(sign(t, fixed.signing, []byte(identity))).String()
		claims, err := dcap.Verify(quote, &changed, opts)
		if err == nil && (claims.TCBStatus == "" || claims.TCBStatus == attest.NotSupported) {
			t.Errorf("status %q", claims.TCBStatus)
		}
	})
}

func TestParseCollateralForms(t *testing.T) {
	f := newForge(t, attest.SGX)
	quote, col, opts := f.make(t)
	forms := map[string]map[string]any{
		"strings": {},
		"objects": {"tcb_info": json.RawMessage(col.TCBInfo), "qe_identity": json.RawMessage(col.QEIdentity)},
		"replies": {"tcb_info_signature": nil, "qe_identity_signature": nil,
			"tcb_info": `{"tcbInfo":` + col.TCBInfo + `,"signature":"` + col.TCBInfoSignature + `"}`,
			"qe_identity": json.RawMessage(`{"enclaveIdentity":` + col.QEIdentity + `,"signature":"` +
				col.QEIdentitySignature + `"}`)},
	}
	for name, change := range forms {
		var doc map[string]any
		if err := json.Unmarshal([]byte(marshal(t, col)), &doc); err != nil {
			t.Fatal(err)
		}
		for key, value := range change {
			doc[key] = value
		}
		got, err := dcap.ParseCollateral([]byte(marshal(t, doc)))
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(col, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if _, err := dcap.Verify(quote, got, opts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"tcb_info":"x"}`, `{"tcb_info":"x","qe_identity":"y","pck_crl":"zz"}`,
		`{"tcb_info":"x","qe_identity":"y","root_ca_crl":"-----BEGIN X-----"}`} {
		if _, err := dcap.ParseCollateral([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// TestConcurrentCache uses one small cache from several goroutines; the race detector looks on.
func TestConcurrentCache(t *testing.T) {
	cache := dcap.NewChainCache(3)
	var wg sync.WaitGroup
	for range 4 {
		f := newForge(t, attest.SGX)
		quote, col, opts := f.make(t)
		opts.Cache = cache
		for range 2 {
			wg.Go(func() {
				for range 5 {
					if _, err := dcap.Verify(quote, col, opts); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if cache.Len() > 3 {
		t.Error("cache is not bounded")
	}
}
