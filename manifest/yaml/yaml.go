// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package yaml lets people write manifests in YAML. Only command line tools use it: a Coordinator takes JSON, and
// what is hashed is what is sent.
package yaml

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// ToJSON returns valid JSON as it is, byte for byte, and converts anything else from YAML to compact JSON with sorted
// keys. Duplicate keys are an error. Numbers keep their value up to 64 bits.
func ToJSON(data []byte) ([]byte, error) {
	if json.Valid(data) {
		return data, nil
	}
	out, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fmt.Errorf("the file is neither JSON nor YAML: %w", err)
	}
	return out, nil
}
