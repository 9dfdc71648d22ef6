// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package qcnl_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest/collateral/qcnl"
)

// intelDefault has the shape of the file that Intel's package installs.
const intelDefault = `{
  // *** ATTENTION : This file is in JSON format so the keys are case sensitive. Don't change them.
  
  //PCCS server address
  "pccs_url": "https://localhost:8081/sgx/certification/v4/",

  // To accept insecure HTTPS certificate, set this option to false
  "use_secure_cert": false,

  // You can use the Intel PCS or another PCCS to get quote verification collateral.
  //"collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/",

  //"tcb_update_type" : "standard",
  "retry_times": 6, /* times */
  "retry_delay": 10,
  "local_cache_only": false,
  "pck_cache_expire_hours": 168,
  "verify_collateral_cache_expire_hours": 168,
  "custom_request_options" : {
    "get_cert" : { "headers": { "head1": "value // 1" } }
  },
}
`

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want qcnl.Config
	}{
		"empty": {"", qcnl.Config{UseSecureCert: true}},
		"Intel's default": {intelDefault, qcnl.Config{PCCSURL: "https://localhost:8081/sgx/certification/v4/",
			RetryTimes: 6, RetryDelay: 10, CollateralExpireHours: 168,
			CustomRequestOptions: json.RawMessage(`{
    "get_cert" : { "headers": { "head1": "value // 1" } }
  }`)}},
		"the chart's": {`{ "pccs_url": "https://global.acccache.azure.net/sgx/certification/v4/", "use_secure_cert": true }`,
			qcnl.Config{PCCSURL: "https://global.acccache.azure.net/sgx/certification/v4/", UseSecureCert: true}},
		"words": {`{"use_secure_cert": "FALSE", "tcb_update_type": "Early", "collateral_service": "https://c"}`,
			qcnl.Config{TCBUpdateType: "early", CollateralService: "https://c"}},
		"older form": {"# PCCS server address\nPCCS_URL=https://localhost:8081/sgx/certification/v3/\n" +
			"# To accept insecure HTTPS cert\nUSE_SECURE_CERT=FALSE\n",
			qcnl.Config{PCCSURL: "https://localhost:8081/sgx/certification/v3/"}},
	} {
		got, err := qcnl.Parse([]byte(test.file))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestCollateralService(t *testing.T) {
	if got := (qcnl.Config{PCCSURL: "a", CollateralService: "b"}).Collateral(); got != "b" {
		t.Errorf("got %q, want the collateral service", got)
	}
	if got := (qcnl.Config{PCCSURL: "a"}).Collateral(); got != "a" {
		t.Errorf("got %q, want the PCCS", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for file, want := range map[string][]string{
		`{"pccs_url": 1, "use_secure_cert": "maybe", "retry_times": -1, "tcb_update_type": "late"}`: {
			"pccs_url", "use_secure_cert", "retry_times", "tcb_update_type"},
		`{"pccs_url": `: {"not JSON"},
		`pccs`:          {"neither"},
	} {
		_, err := qcnl.Parse([]byte(file))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %v does not mention %q", file, err, w)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(intelDefault))
	f.Add([]byte("PCCS_URL=x\nUSE_SECURE_CERT=TRUE"))
	f.Add([]byte(`{"a": "\"`))
	f.Add([]byte(`/* // # "`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := qcnl.Parse(data)
		if err == nil && (c.RetryTimes < 0 || c.RetryDelay < 0 || c.CollateralExpireHours < 0) {
			t.Errorf("negative number in %+v", c)
		}
	})
}
