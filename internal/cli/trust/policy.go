// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/marblerun/marblerun/api"
)

//go:embed coordinator-era.json
var embeddedPolicy string

// EmbeddedPolicy returns the policy for the Coordinator of the same release, which is put in place of an empty file
// when a release is built. Empty: there is none.
func EmbeddedPolicy() []byte { return []byte(embeddedPolicy) }

// Policy is a policy and where it comes from.
type Policy struct {
	// Source is a path, or "embedded at release".
	Source string
	// SHA256 of the policy's bytes, lower-case hex.
	SHA256  string
	Options api.VerifyOptions
}

// FindPolicy reads the policy from explicit (--era-config) or else from the first of era-config.json,
// coordinator-era.json in dir, and the embedded bytes. It does not look further if what it finds is bad.
func FindPolicy(explicit, dir string, embedded []byte) (Policy, error) {
	if explicit != "" {
		return readPolicy(explicit)
	}
	for _, name := range []string{"era-config.json", "coordinator-era.json"} {
		policy, err := readPolicy(filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return policy, err
		}
	}
	if len(bytes.TrimSpace(embedded)) > 0 {
		return newPolicy("embedded at release", embedded)
	}
	return Policy{}, api.WithHint(errors.New("no policy to verify the Coordinator by"),
		"Pass the coordinator-era.json of the Coordinator's release with --era-config, or put it into this directory. "+
			"In simulation, where there is nothing to verify, pass --insecure.")
}

func readPolicy(path string) (Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Policy{}, fmt.Errorf("reading era config file: %w", err)
	}
	return newPolicy(path, data)
}

func newPolicy(source string, data []byte) (Policy, error) {
	options, err := api.ParseVerifyOptions(data)
	if err != nil {
		return Policy{}, fmt.Errorf("reading era config file: %s: %w", source, err)
	}
	sum := sha256.Sum256(data)
	return Policy{Source: source, SHA256: hex.EncodeToString(sum[:]), Options: options}, nil
}
