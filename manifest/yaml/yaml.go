// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package yaml lets people write manifests in YAML. Only command line tools use it: a Coordinator takes JSON, and
// what is hashed is what is sent.
package yaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	documents "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/marblerun/marblerun/manifest/internal/source"
)

// ToJSON returns valid JSON as it is, byte for byte, and converts anything else from YAML to compact JSON with sorted
// keys. Duplicate keys are an error, and so is anything after the first document, which would get lost. Numbers keep
// their value up to 64 bits. What is neither, but begins like JSON, is a *[SyntaxError].
func ToJSON(data []byte) ([]byte, error) {
	if json.Valid(data) {
		return data, nil
	}
	out, err := yaml.YAMLToJSONStrict(data)
	if err == nil {
		err = oneDocument(data)
	}
	if err == nil {
		return out, nil
	}
	// A key that is there twice is the one thing in which a YAML file with braces fails for being YAML.
	if flaw := Flaw(data); flaw != nil && !strings.Contains(err.Error(), "already set in map") {
		return nil, flaw
	}
	return nil, fmt.Errorf("the file is neither JSON nor YAML: %w", err)
}

// oneDocument refuses YAML with something after its first document, which conversion passes over in silence.
func oneDocument(data []byte) error {
	stream := documents.NewDecoder(bytes.NewReader(data))
	var first, next documents.Node
	if stream.Decode(&first) != nil {
		return nil // there is no document, or conversion is the more tolerant of the two parsers
	}
	for {
		switch err := stream.Decode(&next); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("there is more after the first document: %w", err)
		case next.Content[0].Tag != "!!null":
			return fmt.Errorf("there is another document in line %d", next.Content[0].Line)
		}
	}
}

// SyntaxError is where and why data that begins like a JSON object is no JSON.
type SyntaxError struct {
	Line, Column int // from 1, the column in bytes
	Text, Advice string
}

// Error is the place and the text.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: is not JSON: %s", e.Line, e.Column, e.Text)
}

// Hint says what may help; empty if nothing is known to.
func (e *SyntaxError) Hint() string { return e.Advice }

// Flaw returns nil if data is JSON, or does not even begin like a JSON object. YAML may begin like one, too.
func Flaw(data []byte) *SyntaxError {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return nil
	}
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		return nil
	}
	offset := len(data)
	if syntax, ok := err.(*json.SyntaxError); ok && syntax.Offset > 0 { // not wrapped by encoding/json
		offset = min(int(syntax.Offset)-1, len(data))
	}
	e := &SyntaxError{Text: err.Error(), Advice: advice(err.Error())}
	e.Line, e.Column = source.NewLines(data).Position(offset)
	return e
}

func advice(text string) string {
	switch {
	case strings.Contains(text, "unexpected end"):
		return "The file is cut off, or a brace or bracket is not closed."
	case strings.Contains(text, "after object key:value pair"), strings.Contains(text, "after array element"):
		return "Is a comma missing before it?"
	case strings.Contains(text, "'}' looking for"), strings.Contains(text, "']' looking for"):
		return "Is there a comma too many before it?"
	case strings.Contains(text, "after object key"):
		return "Is a colon missing before it?"
	}
	return ""
}
