// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template

import (
	"bytes"
	"reflect"
	"text/template"
)

// The hidden functions. Templates cannot name them: the parser does not know them.
const (
	stepFunction  = "_step"
	printFunction = "_print"
)

// execution executes one template, one call at a time.
type execution struct {
	tmpl  *template.Template
	limit int64
	used  int64
	out   bytes.Buffer
}

func newExecution(t *Template) *execution {
	x := &execution{}
	x.tmpl = t.newTemplate(x.functions(t.kind))
	return x
}

func (x *execution) run(limit, cost int64, data *Data) ([]byte, error) {
	x.limit, x.used = limit, 0
	x.out = bytes.Buffer{}
	if err := x.pay(cost); err != nil {
		return nil, err
	}
	err := x.tmpl.ExecuteTemplate(x, root, data)
	out := x.out.Bytes()
	x.out = bytes.Buffer{} // keep no secrets in the pool
	return out, err
}

// pay takes work from the budget.
func (x *execution) pay(work int64) error {
	if work < 0 || work > x.limit-x.used {
		x.used = x.limit
		return &refusal{text: "the template does too much work", hint: "fewer or smaller loops, formats and values"}
	}
	x.used += work
	return nil
}

// Write receives the output.
func (x *execution) Write(p []byte) (int, error) {
	if x.out.Len()+len(p) > MaxOutput {
		return 0, refuse("the output is larger than %d bytes", MaxOutput)
	}
	if err := x.pay(int64(len(p))); err != nil {
		return 0, err
	}
	return x.out.Write(p)
}

// step pays for the list it stands in.
func (x *execution) step(cost int64) (string, error) { return "", x.pay(cost) }

// print pays for a value before text/template formats it, and refuses to print nothing.
func (x *execution) print(v reflect.Value) (reflect.Value, error) {
	if !v.IsValid() {
		return v, refuse("there is no value to print")
	}
	if v.Kind() == reflect.String {
		return v, nil // not copied, and paid for by Write
	}
	return v, x.payFor(v)
}

// payFor pays for formatting values the plain way.
func (x *execution) payFor(values ...reflect.Value) error {
	_, size := weigh(values, x.limit-x.used)
	return x.pay(size)
}

// weigh estimates values: the number of things that fmt formats one by one, and a bound of the bytes it makes of them
// without width. It stops when size exceeds limit.
func weigh(values []reflect.Value, limit int64) (leaves, size int64) {
	add := func(l, s int64) {
		leaves += l
		size += s
	}
	for _, v := range values {
		if size > limit {
			break
		}
		switch v.Kind() {
		case reflect.Invalid:
			add(1, 16)
		case reflect.String:
			add(1, 16+6*int64(v.Len())) // quoted or escaped
		case reflect.Interface, reflect.Pointer:
			add(weigh([]reflect.Value{v.Elem()}, limit-size))
		case reflect.Slice, reflect.Array:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				add(int64(v.Len()), 32+6*int64(v.Len()))
				continue
			}
			for i := 0; i < v.Len() && size <= limit; i++ {
				add(weigh([]reflect.Value{v.Index(i)}, limit-size))
			}
		case reflect.Map:
			for entries := v.MapRange(); entries.Next() && size <= limit; {
				add(weigh([]reflect.Value{entries.Key(), entries.Value()}, limit-size))
			}
		case reflect.Struct:
			for i := 0; i < v.NumField() && size <= limit; i++ {
				add(weigh([]reflect.Value{v.Field(i)}, limit-size))
			}
			add(0, 32*int64(v.NumField()))
		default:
			add(1, 32)
		}
	}
	return leaves, size
}
