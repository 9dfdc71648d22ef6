// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// describe says in the manifest's words why raw is not a t.
func describe(err error, t reflect.Type, raw []byte) string {
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	return fmt.Sprintf("must be %s, is %s", wantedKind(t), actualKind(raw))
}

func wantedKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a non-negative whole number of %d bits", t.Bits())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes (a base64 string or a list of numbers from 0 to 255)"
		}
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a " + t.String()
}

func actualKind(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	if len(raw) <= 40 {
		return "the number " + string(raw)
	}
	return "a number"
}
