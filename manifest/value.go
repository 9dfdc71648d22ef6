// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/manifest/problem"
)

// Value is an entry of Files or Env. In JSON it is a string, or an object with Data, Encoding and NoTemplates.
type Value struct {
	Data        []byte // decoded
	NoTemplates bool   // deliver Data as it is
}

// valueObject is the object form of a Value.
type valueObject struct {
	Data        string
	Encoding    string // "" or string, base64, hex; case-insensitive
	NoTemplates bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(raw []byte) error {
	var o valueObject
	switch raw[0] {
	case '"':
		if err := json.Unmarshal(raw, &o.Data); err != nil {
			return err
		}
	case '{':
		if err := json.Unmarshal(raw, &o); err != nil {
			return err
		}
	default:
		return errors.New("must be a string or an object with Data, Encoding and NoTemplates")
	}
	data, err := decode(o.Data, o.Encoding)
	*v = Value{Data: data, NoTemplates: o.NoTemplates}
	return err
}

func decode(data, encoding string) ([]byte, error) {
	switch strings.ToLower(encoding) {
	case "", "string":
		return []byte(data), nil
	case "base64":
		decoded, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, fmt.Errorf("Data is not base64 (standard alphabet, padded): %w", err)
		}
		return decoded, nil
	case "hex":
		decoded, err := hex.DecodeString(data)
		if err != nil {
			return nil, fmt.Errorf("Data is not hex: %w", err)
		}
		return decoded, nil
	}
	return nil, fmt.Errorf("Encoding %s is unknown; use string, base64 or hex", problem.Quote(encoding))
}
