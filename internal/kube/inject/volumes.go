// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import "slices"

// volumes are those that mounts may need; each is added when the first mount asks for it.
type volumes struct {
	uuid, aesm wantedVolume
	added      []any
}

type wantedVolume struct {
	name          string
	exists, added bool
	definition    any
}

// newVolumes prepares the volumes of a Pod. A volume that an earlier invocation, the user or Intel's webhook made is
// used again.
func newVolumes(requestUID string, p *pod, w wishes) volumes {
	uuid := wantedVolume{name: uuidFile + "-" + volumeSuffix(requestUID)}
	if i := slices.IndexFunc(p.volumes, func(v volume) bool { return v.uuidField == w.uuidField }); i >= 0 {
		uuid.name, uuid.exists = p.volumes[i].name, true
	}
	uuid.definition = uuidVolume(uuid.name, w.uuidField)

	aesm := wantedVolume{name: aesmVolume}
	aesm.exists = slices.ContainsFunc(p.volumes, func(v volume) bool { return v.name == aesmVolume })
	inPod := slices.ContainsFunc(p.containers, func(c container) bool { return c.name == aesmSidecar })
	aesm.definition = aesmSocket(inPod)
	return volumes{uuid: uuid, aesm: aesm}
}

// forUUID returns the name of the volume with the Marble's UUID.
func (v *volumes) forUUID() string { return v.use(&v.uuid) }

// forAESM returns the name of the volume with the socket of the AESM service.
func (v *volumes) forAESM() string { return v.use(&v.aesm) }

func (v *volumes) use(w *wantedVolume) string {
	if !w.exists && !w.added {
		w.added = true
		v.added = append(v.added, w.definition)
	}
	return w.name
}

// uuidVolume shows a field of the Pod as a file, without a newline at its end.
func uuidVolume(name, field string) any {
	type fieldRef struct {
		FieldPath string `json:"fieldPath"`
	}
	type item struct {
		Path     string   `json:"path"`
		FieldRef fieldRef `json:"fieldRef"`
	}
	type downwardAPI struct {
		Items []item `json:"items"`
	}
	return struct {
		Name        string      `json:"name"`
		DownwardAPI downwardAPI `json:"downwardAPI"`
	}{name, downwardAPI{[]item{{uuidFile, fieldRef{field}}}}}
}

// aesmSocket is the folder of the service on the node, or shared with a sidecar that runs it, as Intel's webhook has
// it.
func aesmSocket(sidecar bool) any {
	if sidecar {
		return map[string]any{"name": aesmVolume, "emptyDir": map[string]any{"medium": "Memory"}}
	}
	return map[string]any{"name": aesmVolume, "hostPath": map[string]any{"path": aesmFolder}}
}
