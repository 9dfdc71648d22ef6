// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/base64"
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const hiddenValue = "(hidden)"

// Print returns the objects as YAML documents, or as a List in JSON, and whether values of Secrets were hidden in them.
func (all Objects) Print(format string) (data []byte, hidden bool, err error) {
	var shown Objects
	for _, o := range all {
		o, hid := hide(o)
		shown, hidden = append(shown, o), hidden || hid
	}
	if format != "json" {
		text, err := shown.manifest()
		return []byte(text), hidden, err
	}
	items := []any{}
	for _, o := range shown {
		items = append(items, o.Object)
	}
	data, err = json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}, "", "  ")
	return append(data, '\n'), hidden, err
}

// hide returns a Secret without its values.
func hide(o *unstructured.Unstructured) (*unstructured.Unstructured, bool) {
	if o.GetKind() != "Secret" {
		return o, false
	}
	o = o.DeepCopy()
	hidden := false
	for field, value := range map[string]string{
		"data": base64.StdEncoding.EncodeToString([]byte(hiddenValue)), "stringData": hiddenValue,
	} {
		table, _, _ := unstructured.NestedMap(o.Object, field)
		for name := range table {
			table[name], hidden = value, true
		}
		if len(table) > 0 {
			o.Object[field] = table
		}
	}
	return o, hidden
}

// ServicePort is the first port of a Service.
func ServicePort(o *unstructured.Unstructured, byDefault int) int {
	ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	for _, p := range ports {
		p, _ := p.(map[string]any)
		switch port := p["port"].(type) {
		case float64:
			return int(port)
		case int64:
			return int(port)
		}
	}
	return byDefault
}
