// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marblerun/marblerun/internal/kube/inject/patchtest"
)

// checkAnswer checks what must hold for every review that is answered: the patch applies, and is complete.
func checkAnswer(t testing.TB, h *Handler, body, reply []byte) {
	var question struct {
		Request map[string]json.RawMessage `json:"request"`
	}
	var a answer
	if json.Unmarshal(reply, &a) != nil || a.Kind != "AdmissionReview" {
		t.Fatalf("no review: %s", reply)
	}
	if json.Unmarshal(body, &question) != nil || a.Response.Patch == nil {
		return
	}
	if !a.Response.Allowed {
		t.Fatal("a patch in a refusal")
	}
	// Members of a review may be spelled in other cases, and twice; its object is then not the one that was read.
	object, ok := question.Request["object"]
	if !ok {
		return
	}
	patched, err := patchtest.Apply(object, a.Response.Patch)
	if err != nil {
		if strings.Count(strings.ToLower(string(body)), `object`) > 1 {
			return
		}
		t.Fatalf("the patch does not apply: %v\n%s\n%s", err, object, a.Response.Patch)
	}
	again, err := h.injector.Review(Request{UID: "another", Namespace: "ns", Object: patched})
	if err == nil && again.Patch != nil {
		t.Fatalf("the second patch is not empty: %s\n%s", encode(t, again.Patch), patched)
	}
}

func someOf[T any](values ...T) *rapid.Generator[[]T] {
	return rapid.SliceOfN(rapid.SampledFrom(values), 0, 3)
}

type fields = map[string]any

// draw sets a member of an object, or leaves it out, or makes it null.
func draw(t *rapid.T, o fields, name string, value func() any) {
	switch rapid.IntRange(0, 4).Draw(t, name+" present") {
	case 0:
	case 1:
		o[name] = nil
	default:
		o[name] = value()
	}
}

func drawContainer(t *rapid.T, name string) fields {
	c := fields{"name": name, "image": "x"}
	draw(t, c, "env", func() any {
		list := []fields{}
		for _, n := range someOf(envType, envUUIDFile, envAESM, envDNSNames, "MINE").Draw(t, "env") {
			list = append(list, fields{"name": n, "value": "mine"})
		}
		return list
	})
	draw(t, c, "resources", func() any {
		r := fields{}
		for _, kind := range []string{"limits", "requests"} {
			draw(t, r, kind, func() any {
				set := fields{}
				for _, key := range someOf(IntelEPC, intelEnclave, AzureEPC, "cpu").Draw(t, kind) {
					set[key] = "7"
				}
				return set
			})
		}
		return r
	})
	draw(t, c, "volumeMounts", func() any {
		list, used := []fields{}, map[string]bool{}
		for _, at := range someOf("/web-uid", "/web-uid/", "/var/run/aesmd", "/data").Draw(t, "mounts") {
			if !used[path.Clean(at)] {
				list = append(list, fields{"mountPath": at, "name": "own"})
			}
			used[path.Clean(at)] = true
		}
		return list
	})
	return c
}

func drawPod(t *rapid.T) fields {
	metadata := fields{"name": "web-0", "labels": fields{LabelType: "web"}}
	labels := metadata["labels"].(fields)
	draw(t, metadata, "annotations", func() any {
		set := fields{}
		for _, key := range []string{AnnotationEPC, AnnotationAttestation, AnnotationUUID, annotationQuoteProvider} {
			if rapid.Bool().Draw(t, key) {
				set[key] = map[string]string{AnnotationEPC: "32Mi", AnnotationAttestation: "out-of-process",
					AnnotationUUID: "stable", annotationQuoteProvider: "aesmd"}[key]
			}
		}
		return set
	})
	if rapid.Bool().Draw(t, "named") {
		labels[LabelContainer] = rapid.SampledFrom([]string{"", "c0", "i0", "nobody"}).Draw(t, "which")
	}
	if rapid.Bool().Draw(t, "no resources") {
		labels[LabelResources] = "disabled"
	}
	spec := fields{}
	for _, kind := range []string{"initContainers", "containers"} {
		var list []fields
		for i := range rapid.IntRange(0, 3).Draw(t, kind) {
			list = append(list, drawContainer(t, fmt.Sprintf("%c%d", kind[0], i)))
		}
		spec[kind] = list
	}
	volumes := []fields{{"name": "own", "emptyDir": fields{}}}
	if rapid.Bool().Draw(t, "socket volume") {
		volumes = append(volumes, fields{"name": aesmVolume, "hostPath": fields{"path": aesmFolder}})
	}
	spec["volumes"] = volumes
	draw(t, spec, "tolerations", func() any {
		return someOf(fields{"operator": "Exists"}, fields{"key": IntelEPC, "operator": "Exists", "effect": "NoSchedule"},
			fields{"key": IntelEPC, "operator": "Equal", "value": "x"}).Draw(t, "tolerations")
	})
	return fields{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
}

func TestProperties(t *testing.T) {
	resources := []string{IntelEPC, AzureEPC, "example.com/sgx"}
	rapid.Check(t, func(rt *rapid.T) {
		h := newHandler(t, Config{Resource: rapid.SampledFrom(resources).Draw(rt, "resource")})
		before := encode(t, drawPod(rt))
		request := fields{"uid": "u1", "namespace": "ns", "object": json.RawMessage(before)}
		first, after := ask(t, h, reviewV1, request)
		if !first.Response.Allowed {
			rt.Fatalf("refused: %v", first.Response.Status)
		}
		request["uid"], request["object"] = "u2", json.RawMessage(after)
		if second, _ := ask(t, h, reviewV1, request); second.Response.Patch != nil {
			rt.Fatalf("patch(patch(pod)) is not empty: %s", second.Response.Patch)
		}
		var old, new any
		if json.Unmarshal(before, &old) != nil || json.Unmarshal(after, &new) != nil {
			rt.Fatal("no JSON")
		}
		if lost := lostIn(old, new, ""); lost != "" {
			rt.Fatalf("%s was changed:\n%s", lost, cmp.Diff(old, new))
		}
		checkReferences(rt, after)
	})
}

// lostIn returns where something of old is not in new. Lists may have grown at their end; null and empty are the same.
// The annotation marblerun/uuid is the one value that may change.
func lostIn(old, new any, at string) string {
	switch o := old.(type) {
	case nil:
		return ""
	case map[string]any:
		n, _ := new.(map[string]any)
		for key, value := range o {
			if lost := lostIn(value, n[key], at+"/"+key); lost != "" {
				return lost
			}
		}
		return ""
	case []any:
		n, _ := new.([]any)
		for i, value := range o {
			if i >= len(n) {
				return fmt.Sprintf("%s/%d", at, i)
			}
			if lost := lostIn(value, n[i], fmt.Sprintf("%s/%d", at, i)); lost != "" {
				return lost
			}
		}
		return ""
	}
	if old != new && at != "/metadata/annotations/"+AnnotationUUID {
		return at
	}
	return ""
}

// checkReferences checks what the API server would refuse: mounts of no volume, a path mounted twice, names used twice,
// and what makes the whole useless: a touched container without its variables.
func checkReferences(t *rapid.T, pod []byte) {
	type named struct{ Name, MountPath string }
	var p struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			Volumes                    []named
			InitContainers, Containers []struct {
				Name              string
				Env, VolumeMounts []named
			}
		}
	}
	if err := json.Unmarshal(pod, &p); err != nil {
		t.Fatal(err)
	}
	volumes := map[string]bool{}
	for _, v := range p.Spec.Volumes {
		if volumes[v.Name] {
			t.Fatalf("two volumes %s", v.Name)
		}
		volumes[v.Name] = true
	}
	only := p.Metadata.Labels[LabelContainer]
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		paths, envs := map[string]bool{}, map[string]bool{}
		for _, m := range c.VolumeMounts {
			if at := path.Clean(m.MountPath); paths[at] || !volumes[m.Name] {
				t.Fatalf("%s mounts %s of volume %s", c.Name, m.MountPath, m.Name)
			}
			paths[path.Clean(m.MountPath)] = true
		}
		for _, e := range c.Env {
			envs[e.Name] = true
		}
		touched := only == "" || only == c.Name
		for _, name := range []string{envCoordinator, envType, envDNSNames, envUUIDFile} {
			if touched && !envs[name] {
				t.Fatalf("%s lacks %s", c.Name, name)
			}
		}
		if !touched && envs[envCoordinator] {
			t.Fatalf("%s was touched", c.Name)
		}
	}
}
