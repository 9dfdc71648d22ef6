// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
	"github.com/marblerun/marblerun/manifest/identity"
)

func TestVerifyCoordinator(t *testing.T) {
	tests := map[string]struct {
		fake    func(*fakecoordinator.Coordinator)
		options func(*api.VerifyOptions)
		want    string // part of the error; empty: accepted
	}{
		"accepted":       {},
		"version 1 only": {fake: func(c *fakecoordinator.Coordinator) { c.OnlyV1 = true }},
		"nonce":          {options: func(o *api.VerifyOptions) { o.Nonce = []byte{0xfb, 0xff, 1} }},
		"unique ID":      {options: func(o *api.VerifyOptions) { o.UniqueID = strings.ToUpper(fakecoordinator.UniqueID) }},
		"insecure":       {options: func(o *api.VerifyOptions) { *o = api.VerifyOptions{InsecureSkipVerify: true} }},
		"debug allowed":  {options: func(o *api.VerifyOptions) { o.Debug = true }},
		"simulation":     {fake: func(c *fakecoordinator.Coordinator) { c.Simulation = true }, want: "sent no quote"},
		"no verifier":    {options: func(o *api.VerifyOptions) { o.Verifier = nil }, want: "no verifier"},
		"empty policy":   {options: func(o *api.VerifyOptions) { o.SignerID = "" }, want: "neither UniqueID nor SignerID"},
		"no versions":    {options: func(o *api.VerifyOptions) { o.ProductID = nil }, want: "missing ProductID in config"},
		"wrong unique ID": {
			options: func(o *api.VerifyOptions) { o.UniqueID = fakecoordinator.SignerID }, want: "invalid UniqueID",
		},
		"wrong signer": {
			options: func(o *api.VerifyOptions) { o.SignerID = fakecoordinator.UniqueID }, want: "invalid SignerID",
		},
		"wrong product":    {options: func(o *api.VerifyOptions) { *o.ProductID = 4 }, want: "invalid ProductID"},
		"required product": {options: func(o *api.VerifyOptions) { *o.ProductID = 0 }, want: "invalid ProductID"},
		"old version":      {options: func(o *api.VerifyOptions) { *o.SecurityVersion = 3 }, want: "invalid SecurityVersion"},
		"debug": {
			fake: func(c *fakecoordinator.Coordinator) { c.Claims.Debug = true }, want: "debug enclave not allowed",
		},
		"out of date": {
			fake: func(c *fakecoordinator.Coordinator) { c.Claims.TCBStatus = attest.OutOfDate },
			want: "invalid TCB status: OutOfDate",
		},
		"wrong TEE": {fake: func(c *fakecoordinator.Coordinator) { c.Claims.TEE = attest.TDX }, want: "tdx"},
		"nonce but version 1": {
			fake:    func(c *fakecoordinator.Coordinator) { c.OnlyV1 = true },
			options: func(o *api.VerifyOptions) { o.Nonce = []byte("n") },
			want:    "using custom nonce requires /api/v2, but the Coordinator does not support /api/v2",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fake := start(t, test.fake)
			o := policy(t)
			if test.options != nil {
				test.options(&o)
			}
			got, err := api.VerifyCoordinator(t.Context(), fake.Endpoint(), o)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !got.Root.Equal(fake.Root) || !got.Intermediate.Equal(fake.Intermediate) || len(got.Quote) == 0 {
					t.Error("root, intermediate or quote missing")
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Errorf("got %v, %v; want error %q", got, err, test.want)
			}
		})
	}
}

// TestVerifyBinding shows an impostor that relays the certificates and the quote of a genuine Coordinator.
func TestVerifyBinding(t *testing.T) {
	genuine := start(t, nil)
	t.Run("connection is not the root's", func(t *testing.T) {
		impostor := start(t, func(c *fakecoordinator.Coordinator) {
			c.QuoteRoot, c.Intermediate = genuine.Root, genuine.Intermediate
		})
		_, err := api.VerifyCoordinator(t.Context(), impostor.Endpoint(), api.VerifyOptions{InsecureSkipVerify: true})
		if !errors.Is(err, api.ErrRootMismatch) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("intermediate is not the root's", func(t *testing.T) {
		impostor := start(t, func(c *fakecoordinator.Coordinator) { c.Intermediate = genuine.Intermediate })
		_, err := api.VerifyCoordinator(t.Context(), impostor.Endpoint(), policy(t))
		if err == nil || !strings.Contains(err.Error(), "not signed by its root") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("quote is for another root", func(t *testing.T) {
		impostor := start(t, func(c *fakecoordinator.Coordinator) { c.Tamper = relayQuote(t, genuine) })
		_, err := api.VerifyCoordinator(t.Context(), impostor.Endpoint(), policy(t))
		if !errors.Is(err, api.ErrReportData) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cached quote does not answer a nonce", func(t *testing.T) {
		quote := fetchQuote(t, genuine)
		stale := start(t, func(c *fakecoordinator.Coordinator) {
			c.Tamper = func(_ string, data any) any {
				q := data.(wire.QuoteV2)
				q.Quote = quote
				return q
			}
		})
		o := policy(t)
		o.Nonce = []byte("fresh")
		if _, err := api.VerifyCoordinator(t.Context(), stale.Endpoint(), o); !errors.Is(err, api.ErrReportData) {
			t.Errorf("got %v", err)
		}
	})
}

func fetchQuote(t *testing.T, c *fakecoordinator.Coordinator) []byte {
	t.Helper()
	got, err := api.VerifyCoordinator(t.Context(), c.Endpoint(), policy(t))
	if err != nil {
		t.Fatal(err)
	}
	return got.Quote
}

func relayQuote(t *testing.T, genuine *fakecoordinator.Coordinator) func(string, any) any {
	quote := fetchQuote(t, genuine)
	return func(_ string, data any) any {
		q := data.(wire.QuoteV2)
		q.Quote = quote
		return q
	}
}

func TestTCBStatusError(t *testing.T) {
	fake := start(t, func(c *fakecoordinator.Coordinator) {
		c.Claims.TCBStatus = attest.SWHardeningNeeded
		c.Claims.PlatformAdvisories = []string{"INTEL-SA-1", "INTEL-SA-2"}
		c.Claims.Advisories = c.Claims.PlatformAdvisories
	})
	o := policy(t)
	got, err := api.VerifyCoordinator(t.Context(), fake.Endpoint(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"TCB level accepted by configuration: SWHardeningNeeded", "TCB Advisories: [INTEL-SA-1 INTEL-SA-2]",
	}
	if diff := cmp.Diff(want, got.Notes); diff != "" {
		t.Error(diff)
	}

	o.AcceptedAdvisories = []string{"intel-sa-1"}
	_, err = api.VerifyCoordinator(t.Context(), fake.Endpoint(), o)
	var status *api.TCBStatusError
	if !errors.As(err, &status) {
		t.Fatalf("no TCBStatusError: %v", err)
	}
	const text = "invalid TCB status: SWHardeningNeeded: advisories not accepted by configuration: [INTEL-SA-2]"
	if status.Error() != text || !strings.Contains(api.Hint(err), "INTEL-SA-2") {
		t.Errorf("got %q, hint %q", status, api.Hint(err))
	}
}

func TestParseVerifyOptions(t *testing.T) {
	const signer = `"SignerID":"` + fakecoordinator.SignerID + `"`
	tests := map[string]struct{ file, want string }{
		"release":        {file: fakecoordinator.Policy},
		"any case":       {file: `{"uniqueid":"` + fakecoordinator.UniqueID + `","unknown":1}`},
		"skip":           {file: `{"InsecureSkipVerify":true}`, want: "InsecureSkipVerify must not be set by a file"},
		"skip, any case": {file: `{"INSECURESKIPVERIFY":true}`, want: "InsecureSkipVerify must not be set by a file"},
		"empty":          {file: `{}`, want: "neither UniqueID nor SignerID"},
		"no version":     {file: `{` + signer + `,"ProductID":3}`, want: "missing SecurityVersion"},
		"zero is unset":  {file: `{` + signer + `,"SecurityVersion":1,"ProductID":0}`, want: "missing ProductID"},
		"short ID":       {file: `{"UniqueID":"11"}`, want: "UniqueID in config must be 32 bytes in hex"},
		"no hex":         {file: `{"UniqueID":"` + strings.Repeat("x", 64) + `"}`, want: "UniqueID in config must be"},
		"TDX":            {file: `{"TDX":{"MRTD":"` + strings.Repeat("ab", 48) + `"}}`},
		"SNP":            {file: `{"SNP":{"Measurement":"` + strings.Repeat("ab", 48) + `","Policy":{"SMT":false}}}`},
		"TDX of nothing": {
			file: `{"TDX":{"RTMR1":"` + strings.Repeat("ab", 48) + `"}}`, want: "TDX in config: no measurement",
		},
		"SNP of nothing":   {file: `{"SNP":{}}`, want: "SNP in config: no measurement is pinned"},
		"TDX of zeros":     {file: `{"TDX":{"MRTD":"` + strings.Repeat("0", 96) + `"}}`, want: "zeros"},
		"short MRTD":       {file: `{"TDX":{"MRTD":"ab"}}`, want: "TDX.MRTD in config: must be 48 bytes"},
		"half SGX and TDX": {file: `{"ProductID":1,"TDX":{"MRTD":"` + strings.Repeat("ab", 48) + `"}}`, want: "neither"},
		"debug pins, too":  {file: `{"Debug":true,"SNP":{}}`, want: "no measurement is pinned"},
		"no JSON":          {file: `hello`, want: "invalid character"},
		"product too high": {file: `{"ProductID":65536}`, want: "ProductID"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := api.ParseVerifyOptions([]byte(test.file))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestPolicyByTEE: a Coordinator must fulfill the policy of its own kind of TEE.
func TestPolicyByTEE(t *testing.T) {
	unique, mrtd, measurement := strings.Repeat("11", 32), strings.Repeat("22", 48), strings.Repeat("33", 48)
	claims := []*attest.Claims{
		{TEE: attest.SGX, TCBStatus: attest.UpToDate, SGX: &attest.SGXClaims{MRENCLAVE: unique}},
		{TEE: attest.TDX, TCBStatus: attest.UpToDate, TDX: &attest.TDXClaims{MRTD: mrtd}},
		{TEE: attest.SNP, TCBStatus: attest.UpToDate, SNP: &attest.SNPClaims{Measurement: measurement}},
	}
	for kinds := range 8 { // a bit for each kind that the policy names
		var o api.VerifyOptions
		if kinds&1 != 0 {
			o.UniqueID = unique
		}
		if kinds&2 != 0 {
			o.TDX = &identity.TDX{MRTD: mrtd}
		}
		if kinds&4 != 0 {
			o.SNP = &identity.SNP{Measurement: measurement}
		}
		for i, c := range claims {
			verdict := o.Policy(c.TEE).Check(c)
			if named := kinds>>i&1 == 1; verdict.Accepted != named && kinds != 0 {
				t.Errorf("kinds %03b: %s is accepted: %v; %v", kinds, c.TEE, verdict.Accepted, verdict.Reasons)
			}
		}
		if valid := o.Validate() == nil; valid != (kinds != 0) {
			t.Errorf("kinds %03b: valid is %v", kinds, valid)
		}
	}
}

func FuzzParseVerifyOptions(f *testing.F) {
	f.Add([]byte(fakecoordinator.Policy))
	f.Add([]byte(`{"InsecureSkipVerify":true,"Nonce":"AAA="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := api.ParseVerifyOptions(data)
		pins := o.UniqueID != "" || o.SignerID != "" || o.TDX != nil || o.SNP != nil
		if err == nil && (o.InsecureSkipVerify || !pins) {
			t.Errorf("accepted a policy that checks nothing: %s", data)
		}
	})
}

func TestVerifyDeployment(t *testing.T) {
	manifest := []byte(`{"a":1}`)
	sum := sha256.Sum256(manifest)
	fake := start(t, func(c *fakecoordinator.Coordinator) { c.SetManifest(manifest) })
	for name, m := range map[string][]byte{"bytes": manifest, "hash": sum[:]} {
		if _, err := api.VerifyDeployment(t.Context(), fake.Endpoint(), policy(t), m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := api.VerifyDeployment(t.Context(), fake.Endpoint(), policy(t), []byte(`{"a":2}`))
	if !errors.Is(err, api.ErrManifestMismatch) {
		t.Errorf("got %v", err)
	}
}
