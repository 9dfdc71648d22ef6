// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
)

// expressions reads --set-json, --set, --set-string, --set-file and --set-literal, in this order, into out.
func (g Given) expressions(out Values) (Values, error) {
	for _, text := range g.JSON {
		var err error
		if out, err = parseJSON(text, out); err != nil {
			return nil, err
		}
	}
	for _, kind := range []struct {
		flag  string
		texts []string
		parse func(string, map[string]any) error
	}{
		{"--set", g.Set, strvals.ParseInto},
		{"--set-string", g.String, strvals.ParseIntoString},
		{"--set-file", g.File, parseFile},
		{"--set-literal", g.Literal, strvals.ParseLiteralInto},
	} {
		for _, text := range kind.texts {
			if err := kind.parse(text, out); err != nil {
				return nil, expressionError(kind.flag, text, err)
			}
		}
	}
	return out, nil
}

func parseJSON(text string, out Values) (Values, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		if err := strvals.ParseJSON(text, out); err != nil {
			return nil, expressionError("--set-json", text, err)
		}
		return out, nil
	}
	var object Values
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return nil, errors.New("--set-json: the JSON object cannot be understood")
	}
	return loader.MergeMaps(out, object), nil
}

func parseFile(text string, out map[string]any) error {
	return strvals.ParseIntoFile(text, out, func(path []rune) (any, error) {
		data, err := os.ReadFile(string(path))
		if err != nil {
			return nil, &fileError{err}
		}
		return string(data), nil
	})
}

// fileError is that of a file for --set-file: it names the file, not what is in it.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }

// expressionError names the first value's name. The rest of the text, and Helm's error, may hold a secret.
func expressionError(flag, text string, err error) error {
	var file *fileError
	if errors.As(err, &file) {
		return fmt.Errorf("%s: %w", flag, file)
	}
	name, _, found := strings.Cut(text, "=")
	if !found {
		return commaHint(fmt.Errorf("%s wants NAME=VALUE", flag))
	}
	return commaHint(fmt.Errorf("%s %s=…: cannot be understood", flag, name))
}
