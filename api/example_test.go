// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"

	"github.com/marblerun/marblerun/api"
)

// Verify a deployment before trusting it with anything.
func ExampleConnect() {
	var verifier api.Verifier // e.g. of package attest, with the roots of trust that you choose
	options, err := api.VerifyOptionsFromConfig("coordinator-era.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	options.Verifier = verifier
	ctx := context.Background()
	client, coordinator, err := api.Connect(ctx, "coordinator.example:4433", options, api.Options{})
	if err != nil {
		fmt.Println(err, api.Hint(err))
		return
	}
	defer client.Close()
	manifest, err := client.ManifestGet(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(coordinator.Root.Subject, "runs", manifest.Fingerprint)
}
