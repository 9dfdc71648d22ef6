// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets more tests run side by side than there are processors: they mostly wait for the cluster.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
