// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// RootsModule has Mozilla's root certificates as the Go project publishes them, rootsSum is its sum in go.sum.
// Pinned, so that images are reproducible: update both together, with "go mod download -json
// golang.org/x/crypto/x509roots/fallback@latest".
const (
	RootsModule = "golang.org/x/crypto/x509roots/fallback@v0.0.0-20261030153154-30a33513ff6d"
	rootsSum    = "h1:5NBkmd8MXirajj6AAEpi4HFVJnVkBNPTL1ggYAKqaws="
)

// Roots returns the root certificates of the public web in PEM. Constraints that browsers put on some of them
// ("distrusted after …") cannot be said in this format. Collateral, which the Coordinator fetches with them, is signed
// in itself.
func Roots(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "marblerun-roots-") // outside of any module, so that no go.mod is touched
	if err != nil {
		return nil, fmt.Errorf("fetching root certificates: %w", err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", RootsModule)
	cmd.Dir = dir
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr != nil || err != nil {
		return nil, fmt.Errorf("fetching root certificates: go mod download %s: %v %s", RootsModule, err, module.Error)
	}
	if module.Sum != rootsSum {
		return nil, fmt.Errorf("fetching root certificates: %s has the sum %s, not %s", RootsModule, module.Sum, rootsSum)
	}
	der, err := os.ReadFile(filepath.Join(module.Dir, "bundle", "bundle.der"))
	if err != nil {
		return nil, fmt.Errorf("reading root certificates: %w", err)
	}
	return toPEM(der)
}

func toPEM(der []byte) ([]byte, error) {
	certificates, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, fmt.Errorf("reading root certificates: %w", err)
	}
	var out bytes.Buffer
	for _, c := range certificates {
		fmt.Fprintln(&out, "#", c.Subject)
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
