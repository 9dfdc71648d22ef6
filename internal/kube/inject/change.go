// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"path"
	"slices"
	"strings"
)

const (
	envCoordinator = "EDG_MARBLE_COORDINATOR_ADDR"
	envType        = "EDG_MARBLE_TYPE"
	envDNSNames    = "EDG_MARBLE_DNS_NAMES"
	envUUIDFile    = "EDG_MARBLE_UUID_FILE"
	envAESM        = "SGX_AESM_ADDR"

	uuidFile = "uuid-file"
	// aesmFolder holds the socket of the AESM service, on the node and in the container.
	aesmFolder = "/var/run/aesmd"
	// aesmVolume and aesmSidecar are the names by which Intel's webhook knows the volume and a container that runs the
	// service.
	aesmVolume, aesmSidecar = "aesmd-socket", "aesmd"
)

// change collects the patch of one Pod.
type change struct {
	in        *Injector
	pod       *pod
	wishes    wishes
	namespace string
	volumes   volumes
	patch     patch
}

type env struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type mount struct {
	MountPath string `json:"mountPath"`
	Name      string `json:"name"`
}

// containers changes each container that is wanted and returns their names.
func (c *change) containers() (touched []string) {
	for _, one := range slices.Concat(c.pod.initContainers, c.pod.containers) {
		if c.wishes.only == "" || c.wishes.only == one.name {
			c.container(one)
			touched = append(touched, one.name)
		}
	}
	return touched
}

func (c *change) container(one container) {
	folder := "/" + c.wishes.marbleType + "-uid"
	domain := c.namespace + ".svc." + c.in.cfg.ClusterDomain
	name := c.wishes.dnsName
	envs := []env{
		{envCoordinator, c.in.cfg.CoordinatorAddr},
		{envType, c.wishes.marbleType},
		{envDNSNames, strings.ToLower(strings.Join([]string{name, name + "." + c.namespace, name + "." + domain}, ","))},
		{envUUIDFile, path.Join(folder, uuidFile)},
	}
	var mounts []mount
	if !slices.Contains(one.envs, envUUIDFile) && !slices.Contains(one.mountPaths, folder) {
		mounts = append(mounts, mount{folder, c.volumes.forUUID()})
	}
	if c.wishes.aesm {
		envs = append(envs, env{envAESM, "1"})
		if !slices.Contains(one.mountPaths, aesmFolder) {
			mounts = append(mounts, mount{aesmFolder, c.volumes.forAESM()})
		}
	}
	envs = slices.DeleteFunc(envs, func(e env) bool { return slices.Contains(one.envs, e.Name) })
	appendTo(&c.patch, one.at+"/env", len(one.envs), envs)
	c.limit(one)
	appendTo(&c.patch, one.at+"/volumeMounts", len(one.mountPaths), mounts)
}

// limit asks for the SGX resources that the container does not ask for itself. Limits of extended resources must equal
// requests, so a request without a limit gives the amount.
func (c *change) limit(one container) {
	if !c.wishes.resources {
		return
	}
	plugin := c.in.plugin
	wanted := map[string]any{plugin.key: c.wishes.amount}
	if plugin.enclave != "" {
		wanted[plugin.enclave] = "1"
	}
	// The provisioning device is what lets an enclave make quotes by itself, or the AESM service make them for others.
	if plugin.provision != "" && (!c.wishes.aesm || one.name == aesmSidecar) {
		wanted[plugin.provision] = "1"
	}
	for key := range wanted {
		if _, exists := one.limits[key]; exists {
			delete(wanted, key)
		} else if request, exists := one.requests[key]; exists {
			wanted[key] = request
		}
	}
	if len(wanted) > 0 && !one.hasResources {
		c.patch.add(one.at+"/resources", map[string]any{"limits": wanted})
		return
	}
	setIn(&c.patch, one.at+"/resources/limits", len(one.limits), wanted)
}

// tolerate lets the Pod onto nodes that are kept for SGX.
func (c *change) tolerate() {
	type added struct {
		Key      string `json:"key"`
		Operator string `json:"operator"`
		Effect   string `json:"effect"`
	}
	key := c.in.plugin.key
	covers := func(t toleration) bool {
		return t.operator == "Exists" && (t.key == "" || t.key == key) && (t.effect == "" || t.effect == "NoSchedule")
	}
	if !c.wishes.resources || slices.ContainsFunc(c.pod.tolerations, covers) {
		return
	}
	appendTo(&c.patch, "/spec/tolerations", len(c.pod.tolerations), []added{{key, "Exists", "NoSchedule"}})
}

// annotate writes the Marble's UUID, and tells Intel's webhook about the AESM service.
func (c *change) annotate() {
	set := map[string]any{}
	if c.wishes.uuid != "" {
		set[AnnotationUUID] = c.wishes.uuid
	}
	if _, exists := c.pod.annotations[annotationQuoteProvider]; c.wishes.aesm && c.in.plugin.key == IntelEPC && !exists {
		set[annotationQuoteProvider] = quoteProviderAESM
	}
	setIn(&c.patch, "/metadata/annotations", len(c.pod.annotations), set)
}
