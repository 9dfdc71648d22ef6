// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Only Marbles whose activation makes an RSA key wait for the key workers.
func TestSlowMarbles(t *testing.T) {
	marble := func(env string) string {
		return `{"Package":"p","Parameters":{"Env":{"X":"` + env + `"}}}`
	}
	d, err := newDeployment([]byte(`{"Packages":{"p":{"UniqueID":"`+strings.Repeat("ab", 32)+`"}},"Marbles":{`+
		`"own":`+marble("{{ pem .Secrets.own.Cert }}")+`,"shared":`+marble("{{ pem .Secrets.shared.Cert }}")+
		`,"user":`+marble("{{ pem .Secrets.user.Cert }}")+`,"key":`+marble("{{ hex .Secrets.key }}")+
		`,"all":`+marble("{{ range .Secrets }}{{ .Type }}{{ end }}")+`},"Secrets":{`+
		`"own":{"Type":"cert-rsa","Size":2048},"shared":{"Type":"cert-rsa","Size":2048,"Shared":true},`+
		`"user":{"Type":"cert-rsa","UserDefined":true},"key":{"Type":"symmetric-key","Size":128}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"own": true, "all": true, "shared": false, "user": false, "key": false}
	if diff := cmp.Diff(want, d.slow); diff != "" {
		t.Error(diff)
	}
}
