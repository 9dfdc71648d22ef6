// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkParameters shows that unrelated secrets cost an activation nothing. The leaf is made outside.
func BenchmarkParameters(b *testing.B) {
	for _, unrelated := range []int{0, 200} {
		b.Run(fmt.Sprintf("%d unrelated secrets", unrelated), func(b *testing.B) {
			var more strings.Builder
			for i := range unrelated {
				kind := []string{`"symmetric-key","Size":256,"Shared":true`, `"cert-ecdsa","Size":256`, `"cert-rsa","Size":4096`,
					`"cert-ed25519","Shared":true`}[i%4]
				fmt.Fprintf(&more, `"u%d":{"Type":%s},`, i, kind)
			}
			in := inputs(b, `{"Secrets":{`+more.String()+`"k":{"Type":"symmetric-key","Size":256},
				"c":{"Type":"cert-ecdsa","Size":256,"Shared":true}},
				"TLS":{"t":{"Incoming":[{"Port":"1"}],"Outgoing":[{"Addr":"a","Port":"1"}]}},
				"Marbles":{"m":{"TLS":["t"],"Parameters":{
					"Files":{"/k":"{{ raw .Secrets.k }}","/c":"{{ pem .Secrets.c.Cert }}"},
					"Env":{"CA":"{{ pem .MarbleRun.RootCA.Cert }}","CERT":"{{ pem .MarbleRun.MarbleCert.Cert }}"}}}}}`)
			in.Rand = rand.Reader
			b.ReportAllocs()
			for b.Loop() {
				activate(b, in)
			}
		})
	}
}
