// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/manifest/internal/source"
	"github.com/marblerun/marblerun/manifest/problem"
)

// Parse reads a manifest from its exact bytes. Field names match ignoring case, unknown fields are ignored, and of
// equal keys the last wins, like encoding/json does it. The error is [Problems]: one syntax error, or every value of
// a wrong type and every Files and Env entry that cannot be decoded.
func Parse(data []byte) (*Manifest, error) {
	if p := syntaxProblem(data); p != nil {
		return nil, Problems{*p}
	}
	var r problem.Report
	for _, f := range source.Inspect(data, reflect.TypeFor[Manifest](), schema(), MaxProblems) {
		if !f.Unknown {
			r.Fail(f.Path, "%s", problem.Shorten(f.Text, 300))
		}
	}
	if len(r.Problems()) > 0 {
		return nil, Locate(data, r.Problems())
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil { // Inspect misses nothing, says FuzzParse
		return nil, Problems{{Path: "$", Line: 1, Column: 1, Text: strings.TrimPrefix(err.Error(), "json: ")}}
	}
	return &m, nil
}

// schema describes the types whose JSON form differs from their Go form.
func schema() source.Schema {
	return source.Schema{
		MaxKey:    MaxName,
		MaxValues: MaxValues,
		Objects:   map[reflect.Type]reflect.Type{reflect.TypeFor[Value](): reflect.TypeFor[valueObject]()},
		Ignored: map[reflect.Type][]string{
			reflect.TypeFor[Secret](): {"Private", "Public"},
			reflect.TypeFor[CertTemplate](): {
				"Raw", "RawTBSCertificate", "RawSubjectPublicKeyInfo", "RawIssuer", "Signature", "PublicKeyAlgorithm",
				"PublicKey", "Version", "SerialNumber", "Issuer", "NotBefore", "Extensions", "UnhandledCriticalExtensions",
				"BasicConstraintsValid", "InhibitAnyPolicy", "InhibitAnyPolicyZero", "InhibitPolicyMapping",
				"InhibitPolicyMappingZero", "RequireExplicitPolicy", "RequireExplicitPolicyZero", "PolicyMappings",
			},
		},
	}
}

// syntaxProblem reports what keeps data from being one JSON value of acceptable size.
func syntaxProblem(data []byte) *Problem {
	if len(data) > MaxSize {
		return &Problem{Path: "$", Text: fmt.Sprintf("has %d bytes, %d are allowed", len(data), MaxSize)}
	}
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		return nil
	}
	p := &Problem{Path: "$", Text: "is not JSON: " + err.Error()}
	offset := len(data)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && syntax.Offset > 0 {
		offset = min(int(syntax.Offset)-1, len(data))
	}
	p.Line, p.Column = source.NewLines(data).Position(offset)
	p.Hint = syntaxHint(data, err)
	return p
}

func syntaxHint(data []byte, err error) string {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return "remove the byte order mark at the beginning"
	case len(bytes.TrimSpace(data)) == 0:
		return "the document is empty"
	case strings.Contains(err.Error(), "after top-level value"):
		return "a manifest is one JSON object and nothing else"
	case errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "unexpected end"):
		return "the document is cut off"
	case data[0] != '{':
		return "a manifest is JSON; the command line tool converts YAML before it uploads"
	}
	return ""
}

// Locate returns a sorted copy in which every problem has the line and column of its path in data. It is for problems
// of functions that do not see the bytes.
func Locate(data []byte, problems Problems) Problems {
	out := slices.Clone(problems)
	var paths []string
	for _, one := range out {
		if one.Line == 0 {
			paths = append(paths, one.Path)
		}
	}
	if len(paths) == 0 || syntaxProblem(data) != nil {
		out.Sort()
		return out
	}
	offsets := source.Locate(data, reflect.TypeFor[Manifest](), schema(), paths)
	lines := source.NewLines(data)
	for i := range out {
		if out[i].Line == 0 {
			out[i].Line, out[i].Column = lines.Position(offsets[out[i].Path])
		}
	}
	out.Sort()
	return out
}
