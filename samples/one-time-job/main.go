// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command one-time-job is a sample Marble whose MaxActivations is 1: whatever it does happens once in the life of the
// mesh, and a host that starts it again is refused. It could create the first administrator; this one only shows that
// it got its secret.
//
// JOB_TOKEN is a secret, from the manifest.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
)

func main() {
	token := os.Getenv("JOB_TOKEN")
	if token == "" {
		fmt.Fprintln(os.Stderr, "one-time-job: JOB_TOKEN is not set; start it as a Marble")
		os.Exit(1)
	}
	digest := sha256.Sum256([]byte(token))
	fmt.Printf("done, with a token whose SHA-256 begins with %x\n", digest[:8])
}
