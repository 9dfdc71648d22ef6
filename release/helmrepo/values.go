// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package helmrepo

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// setVersions sets the tags of the images in values.yaml and leaves everything else, comments and form included. A tag
// that is missing or empty follows the chart's appVersion, and stays so.
func setVersions(values []byte, tag string) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return nil, fmt.Errorf("reading the chart's values: %w", err)
	}
	lines := bytes.Split(values, []byte("\n"))
	for _, component := range []string{"coordinator", "marbleInjector"} {
		node := child(child(root(&document), component), "version")
		if node == nil {
			continue
		}
		if node.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d of the chart's values: %s.version is no text", node.Line, component)
		}
		if node.Value == "" {
			continue
		}
		line := lines[node.Line-1]
		before, after := line[:node.Column-1], line[node.Column-1:]
		lines[node.Line-1] = append(bytes.Clone(before), bytes.Replace(after, []byte(node.Value), []byte(tag), 1)...)
	}
	return bytes.Join(lines, []byte("\n")), nil
}

func root(document *yaml.Node) *yaml.Node {
	if len(document.Content) == 0 {
		return nil
	}
	return document.Content[0]
}

// child returns the value of a key of a mapping, or nil.
func child(mapping *yaml.Node, key string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
