// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// cluster is the one that KUBECONFIG names, as a reader of the guides finds it: without Marblerun, and with a home of
// one's own.
type cluster struct {
	// root is the root of the checkout.
	root string
	home string
	env  []string
	// node is the name of a node that takes Pods.
	node string
	// images are the names of the images that nodes have.
	images []string
	// repository is the URL of the Helm repository that was packaged from this checkout.
	repository string
}

// namespaces are those that the guides name.
var namespaces = []string{"marblerun", "echo"}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("MARBLERUN_E2E") != "1" {
		t.Skip("SKIP: needs a cluster; `make e2e` brings one, or MARBLERUN_E2E=1 and KUBECONFIG name one")
	}
	c := &cluster{root: root(t), home: t.TempDir()}
	c.env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "HELM_") || strings.HasPrefix(v, "HOME=")
	}), "HOME="+c.home, "TMPDIR="+t.TempDir())
	var nodes corev1.NodeList
	c.get(t, &nodes, "nodes")
	for _, n := range nodes.Items {
		for _, i := range n.Status.Images {
			c.images = append(c.images, i.Names...)
		}
		if len(n.Spec.Taints) == 0 {
			c.node = n.Name
		}
	}
	if c.node == "" {
		t.Fatal("no node without taints")
	}
	c.serveCharts(t)
	for _, s := range c.substitutions() {
		t.Logf("in place of %s: %s, because %s", s.Old, s.New, s.Why)
	}
	return c
}

// serveCharts serves dist/charts as a Helm repository. The addresses in its index are substituted, too.
func (c *cluster) serveCharts(t *testing.T) {
	t.Helper()
	charts := filepath.Join(os.Getenv("MARBLERUN_DIST"), "charts")
	index, err := os.ReadFile(filepath.Join(charts, "index.yaml"))
	if err != nil {
		t.Fatalf("MARBLERUN_DIST has no charts: %v", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/stable/", http.StripPrefix("/stable/", http.FileServer(http.Dir(charts))))
	mux.HandleFunc("/stable/index.yaml", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(Substitute(c.substitutions(), string(index)))) // the client may be gone
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.repository = server.URL + "/stable"
}

// kubectl returns what it prints, and fails the test if it fails.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.try("kubectl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *cluster) try(program string, args ...string) (string, error) {
	return c.feed("", program, args...)
}

func (c *cluster) feed(input, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.env, strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// get reads objects into v: get(t, &d, "-n", "marblerun", "deployment", "marble-injector").
func (c *cluster) get(t *testing.T, v any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.kubectl(t, append([]string{"get", "-o", "json"}, args...)...)), v); err != nil {
		t.Fatal(err)
	}
}

// fresh removes what earlier guides left, now and at the end of the test, and offers a volume.
func (c *cluster) fresh(t *testing.T) {
	t.Helper()
	c.remove(t)
	if os.Getenv("MARBLERUN_E2E_KEEP") == "" {
		t.Cleanup(func() { c.remove(t) })
	}
	c.offerVolume(t)
}

func (c *cluster) remove(t *testing.T) {
	t.Helper()
	c.kubectl(t, append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=120s"}, namespaces...)...)
	for _, kind := range []string{"mutatingwebhookconfiguration", "clusterrolebinding", "clusterrole"} {
		c.kubectl(t, "delete", kind, "-l", "app.kubernetes.io/part-of=marblerun", "--ignore-not-found")
	}
	c.kubectl(t, "delete", "persistentvolume", "-l", volumeLabel, "--ignore-not-found", "--timeout=60s")
}

const volumeLabel = "marblerun.test/guide=state"

// offerVolume makes a volume on the node for the Coordinator, unless the cluster makes volumes by itself. It is reserved
// for the claim, since another one might hold the state of an earlier guide.
func (c *cluster) offerVolume(t *testing.T) {
	t.Helper()
	class, provisioned := c.defaultClass(t)
	if provisioned {
		return
	}
	dir, err := os.MkdirTemp("/var/tmp", "marblerun-guide-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const user = 65532 // that of the images
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	volume := fmt.Sprintf(`{"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": {"name": %q, "labels": {"marblerun.test/guide": "state"}},
		"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": %q},
		         "storageClassName": %q, "claimRef": {"namespace": "marblerun", "name": "coordinator-pv-claim"}}}`,
		filepath.Base(dir), dir, class)
	if _, err := c.feed(volume, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// defaultClass is the storage class of claims that name none, and whether it makes volumes.
func (c *cluster) defaultClass(t *testing.T) (name string, provisioned bool) {
	t.Helper()
	var classes storagev1.StorageClassList
	c.get(t, &classes, "storageclass")
	for _, s := range classes.Items {
		if s.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return s.Name, s.Provisioner != "kubernetes.io/no-provisioner"
		}
	}
	return "", false
}

// fakeSGX gives the node what Intel's device plugin offers, until the test ends.
func (c *cluster) fakeSGX(t *testing.T) {
	t.Helper()
	patch := func(epc, devices string) {
		resources := fmt.Sprintf(`{"sgx.intel.com/epc": %s, "sgx.intel.com/enclave": %s, "sgx.intel.com/provision": %s}`,
			epc, devices, devices)
		c.kubectl(t, "patch", "node", c.node, "--subresource=status", "--type=merge",
			"-p", fmt.Sprintf(`{"status": {"capacity": %s, "allocatable": %s}}`, resources, resources))
	}
	patch(`"128Mi"`, `"10"`)
	t.Cleanup(func() { patch("null", "null") })
}

// hasImage says whether a node has an image of that name, with or without registry.
func (c *cluster) hasImage(name string) bool {
	return slices.ContainsFunc(c.images, func(have string) bool {
		return have == name || strings.HasSuffix(have, "/"+name)
	})
}
