// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"reflect"
	"strings"
	"text/template"
)

// names is what the parser accepts as functions.
func names(kind Kind) map[string]any {
	known := make(map[string]any)
	for name := range (&execution{}).functions(kind) {
		known[name] = true
	}
	delete(known, stepFunction)
	delete(known, printFunction)
	// Builtins that need no bound of their own. The builtin call is left out.
	for _, name := range []string{"and", "or", "not", "len", "slice", "eq", "ne", "lt", "le", "gt", "ge"} {
		known[name] = true
	}
	return known
}

// functions are those of the contract, and the builtins that could make much of little.
func (x *execution) functions(kind Kind) template.FuncMap {
	funcs := template.FuncMap{
		"pem":    x.pem,
		"hex":    x.encode(hex.EncodeToString, 2),
		"base64": x.encode(base64.StdEncoding.EncodeToString, 2),

		"print":    x.format(fmt.Sprint),
		"println":  x.format(fmt.Sprintln),
		"html":     x.format(template.HTMLEscaper),
		"js":       x.format(template.JSEscaper),
		"urlquery": x.format(template.URLQueryEscaper),
		"printf":   x.printf,
		"index":    index,

		stepFunction:  x.step,
		printFunction: x.print,
	}
	if kind == File {
		funcs["raw"] = x.encode(func(b []byte) string { return string(b) }, 1)
	} else {
		funcs["string"] = x.text
	}
	return funcs
}

// encode makes a function of the raw bytes of its argument, whose result is at most factor times as long, plus padding.
func (x *execution) encode(encode func([]byte) string, factor int64) func(any) (string, error) {
	return func(v any) (string, error) {
		raw, err := rawBytes(v)
		if err != nil {
			return "", err
		}
		if err := x.pay(factor*int64(len(raw)) + 4); err != nil {
			return "", err
		}
		return encode(raw), nil
	}
}

// rawBytes is what raw, hex and base64 mean by a value.
func rawBytes(v any) ([]byte, error) {
	var raw []byte
	switch v := v.(type) {
	case nil:
		return nil, refuse("there is no such secret")
	case Secret:
		raw = v.Public
	case Certificate:
		raw = v.Raw
	case PublicKey:
		raw = v
	case PrivateKey:
		raw = v
	default:
		return nil, &refusal{"the argument is not a secret, a certificate or a key",
			"use .Secrets.name, or its .Cert, .Public or .Private"}
	}
	if len(raw) == 0 {
		return nil, emptyValue()
	}
	return raw, nil
}

func emptyValue() error {
	return &refusal{"the value is empty",
		"a user-defined secret must be uploaded first; only certificate secrets have a .Cert"}
}

// pem encodes a certificate or key. A whole secret is refused because it is not clear which of the three is meant.
func (x *execution) pem(v any) (string, error) {
	block := &pem.Block{}
	switch v := v.(type) {
	case nil:
		return "", refuse("there is no such secret")
	case Certificate:
		block.Type, block.Bytes = "CERTIFICATE", v.Raw
	case PublicKey:
		block.Type, block.Bytes = "PUBLIC KEY", v
	case PrivateKey:
		block.Type, block.Bytes = "PRIVATE KEY", v
	default:
		return "", &refusal{"pem needs a certificate or a key", "use .Cert, .Public or .Private of the secret"}
	}
	if len(block.Bytes) == 0 {
		return "", emptyValue()
	}
	if err := x.pay(128 + 2*int64(len(block.Bytes))); err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(block)), nil
}

// text is the function string.
func (x *execution) text(v any) (string, error) {
	s, ok := v.(Secret)
	switch {
	case v == nil:
		return "", refuse("there is no such secret")
	case !ok:
		return "", &refusal{"string needs a whole secret", "use .Secrets.name without a field, or hex, base64, pem"}
	case s.Type != "plain":
		return "", &refusal{"string needs a secret of type plain", "use hex or base64 for others"}
	case len(s.Public) == 0:
		return "", emptyValue()
	case bytes.IndexByte(s.Public, 0) >= 0:
		return "", &refusal{"the secret contains a NUL byte",
			"an environment variable cannot hold one; use hex or base64, or Files"}
	}
	if err := x.pay(int64(len(s.Public))); err != nil {
		return "", err
	}
	return string(s.Public), nil
}

// format bounds a builtin that formats its arguments.
func (x *execution) format(builtin func(...any) string) func(...any) (string, error) {
	return func(args ...any) (string, error) {
		if err := x.payFor(values(args)...); err != nil {
			return "", err
		}
		return builtin(args...), nil
	}
}

func values(args []any) []reflect.Value {
	out := make([]reflect.Value, len(args))
	for i, a := range args {
		out[i] = reflect.ValueOf(a)
	}
	return out
}

func (x *execution) printf(format string, args ...any) (string, error) {
	f, err := checkFormat(format)
	if err != nil {
		return "", err
	}
	// An argument index may use one argument in every verb.
	leaves, size := weigh(values(args), x.limit-x.used)
	each := leaves*(f.width+16) + size + f.width + 32
	if f.verbs > 0 && each > MaxWork {
		return "", x.pay(each)
	}
	if err := x.pay(int64(len(format)) + f.verbs*each); err != nil {
		return "", err
	}
	return fmt.Sprintf(format, args...), nil
}

// formatBounds is what a format can do to its arguments.
type formatBounds struct {
	verbs int64
	width int64 // the largest width or precision
}

// checkFormat refuses what makes fmt write much: widths above MaxWidth, or from an argument.
func checkFormat(format string) (formatBounds, error) {
	var f formatBounds
	for {
		_, rest, ok := strings.Cut(format, "%")
		if !ok {
			return f, nil
		}
		f.verbs++
		n := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("+-# 0123456789.[]*", r) })
		if n < 0 {
			n = len(rest)
		}
		if strings.Contains(rest[:n], "*") {
			return f, &refusal{"printf takes a width from its arguments", "write the width into the format"}
		}
		for _, digits := range strings.FieldsFunc(rest[:n], func(r rune) bool { return r < '0' || r > '9' }) {
			digits = strings.TrimLeft(digits, "0")
			if len(digits) > 4 || number("0"+digits) > MaxWidth {
				return f, refuse("printf has a width, precision or index above %d", MaxWidth)
			}
			f.width = max(f.width, int64(number("0"+digits)))
		}
		format = strings.TrimPrefix(rest[n:], "%") // the verb of "%%" begins no other
	}
}

// index is the builtin, except that a missing key of a map is an error.
func index(item reflect.Value, keys ...reflect.Value) (reflect.Value, error) {
	for _, key := range keys {
		for item.Kind() == reflect.Interface || item.Kind() == reflect.Pointer {
			item = item.Elem()
		}
		for key.Kind() == reflect.Interface {
			key = key.Elem()
		}
		var err error
		if item, err = element(item, key); err != nil {
			return reflect.Value{}, err
		}
	}
	return item, nil
}

func element(item, key reflect.Value) (reflect.Value, error) {
	switch item.Kind() {
	case reflect.Map:
		if key.Kind() != item.Type().Key().Kind() {
			return item, refuse("index needs a key of type %s", item.Type().Key())
		}
		v := item.MapIndex(key)
		if !v.IsValid() {
			return v, refuse("there is no such secret")
		}
		return v, nil
	case reflect.Slice, reflect.Array, reflect.String:
		if !key.CanInt() && !key.CanUint() {
			return item, refuse("index needs a number")
		}
		if key.CanInt() && (key.Int() < 0 || key.Int() >= int64(item.Len())) ||
			key.CanUint() && key.Uint() >= uint64(item.Len()) {
			return item, refuse("index is out of range")
		}
		if key.CanUint() {
			return item.Index(int(key.Uint())), nil
		}
		return item.Index(int(key.Int())), nil
	}
	return item, refuse("index needs a map or a list")
}
