// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
)

// pod is what is read of a Pod. Lists keep the positions of the original, which patches refer to.
type pod struct {
	name string
	// hasSpec is false if the field is absent or null: then there is nothing that a patch could be added to.
	hasSpec        bool
	labels         map[string]string
	annotations    map[string]string
	initContainers []container
	containers     []container
	volumes        []volume
	tolerations    []toleration
}

// maxContainers of each kind bounds the patch, which is larger than the containers that it changes can be.
const maxContainers = 1000

type container struct {
	name string // "" is left to the API server, which says better what is wrong with it
	// at is the container's JSON pointer.
	at   string
	envs []string // names
	// hasResources is false if the field is absent or null.
	hasResources     bool
	limits, requests map[string]json.RawMessage
	mountPaths       []string // cleaned
}

type volume struct {
	name string
	// uuidField is the field of the Pod that a downward API volume shows as the file uuid-file; "" for any other volume.
	uuidField string
}

type toleration struct{ key, operator, effect string }

// object is a JSON object whose members are looked up exactly as they are spelled, unlike those of a Go struct.
type object map[string]json.RawMessage

// read decodes the member into to, which stays as it is if the member is absent or null.
func (o object) read(member string, to any) error {
	raw, ok := o[member]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s: %w", member, err)
	}
	return nil
}

func readPod(raw []byte) (*pod, error) {
	var root, metadata, spec object
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, err
	}
	if root == nil {
		return nil, errors.New("no object")
	}
	kind, version := "Pod", "v1"
	if err := errors.Join(root.read("kind", &kind), root.read("apiVersion", &version),
		root.read("metadata", &metadata), root.read("spec", &spec)); err != nil {
		return nil, err
	}
	if kind != "Pod" || version != "v1" {
		return nil, fmt.Errorf("expected v1 Pod, got %.80q %.80q", version, kind)
	}
	p := &pod{hasSpec: spec != nil}
	err := errors.Join(metadata.read("name", &p.name), metadata.read("labels", &p.labels),
		metadata.read("annotations", &p.annotations), p.readSpec(spec))
	return p, err
}

func (p *pod) readSpec(spec object) (err error) {
	if p.initContainers, err = readContainers(spec, "initContainers"); err != nil {
		return err
	}
	if p.containers, err = readContainers(spec, "containers"); err != nil {
		return err
	}
	var volumes, tolerations []object
	if err := errors.Join(spec.read("volumes", &volumes), spec.read("tolerations", &tolerations)); err != nil {
		return err
	}
	for i, o := range volumes {
		v, err := readVolume(o)
		if err != nil {
			return fmt.Errorf("volumes[%d]: %w", i, err)
		}
		p.volumes = append(p.volumes, v)
	}
	for i, o := range tolerations {
		var t toleration
		err := errors.Join(o.read("key", &t.key), o.read("operator", &t.operator), o.read("effect", &t.effect))
		if err != nil {
			return fmt.Errorf("tolerations[%d]: %w", i, err)
		}
		p.tolerations = append(p.tolerations, t)
	}
	return nil
}

func readContainers(spec object, member string) ([]container, error) {
	var objects []object
	if err := spec.read(member, &objects); err != nil {
		return nil, err
	}
	if len(objects) > maxContainers {
		return nil, fmt.Errorf("%s: more than %d", member, maxContainers)
	}
	containers := make([]container, len(objects))
	for i, o := range objects {
		if o == nil {
			return nil, fmt.Errorf("%s[%d]: no object", member, i)
		}
		c := &containers[i]
		c.at = fmt.Sprintf("/spec/%s/%d", member, i)
		if err := c.read(o); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", member, i, err)
		}
	}
	return containers, nil
}

func (c *container) read(o object) error {
	var resources object
	var envs, mounts []object
	if err := errors.Join(o.read("name", &c.name), o.read("env", &envs), o.read("volumeMounts", &mounts),
		o.read("resources", &resources)); err != nil {
		return err
	}
	c.hasResources = resources != nil
	err := errors.Join(resources.read("limits", &c.limits), resources.read("requests", &c.requests))
	for _, e := range envs {
		var name string
		err = errors.Join(err, e.read("name", &name))
		c.envs = append(c.envs, name)
	}
	for _, m := range mounts {
		var at string
		err = errors.Join(err, m.read("mountPath", &at))
		c.mountPaths = append(c.mountPaths, path.Clean(at))
	}
	return err
}

func readVolume(o object) (v volume, err error) {
	var downward object
	if err := errors.Join(o.read("name", &v.name), o.read("downwardAPI", &downward)); err != nil {
		return v, err
	}
	var items []object
	if err := downward.read("items", &items); err != nil {
		return v, err
	}
	for _, item := range items {
		var file string
		var ref object
		if err := errors.Join(item.read("path", &file), item.read("fieldRef", &ref)); err != nil {
			return v, err
		}
		if file != uuidFile {
			continue
		}
		if err := ref.read("fieldPath", &v.uuidField); err != nil {
			return v, err
		}
	}
	return v, nil
}
