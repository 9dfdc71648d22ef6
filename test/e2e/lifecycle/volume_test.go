// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// user is that of our images.
const user = 65532

// offerVolume makes a volume on the node, unless the cluster makes volumes by itself. It is reserved for the plane's
// claim: another volume might hold the state of another test.
func (p *plane) offerVolume() {
	p.Helper()
	class, provisioned := p.defaultClass()
	if provisioned {
		return
	}
	dir, err := os.MkdirTemp("/var/tmp", "marblerun-e2e-")
	if err != nil {
		p.Fatal(err)
	}
	if err := os.Chown(dir, user, user); err != nil {
		p.Fatal(err)
	}
	p.Apply("", fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: %[1]s}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: %[2]s}
  storageClassName: %[3]s
  claimRef: {namespace: %[1]s, name: %[4]s}
`, p.ns, dir, class, claim))
	p.Cleanup(func() {
		// It goes when its claim has gone.
		_, err := p.Try(kit.Command{Args: []string{"kubectl", "delete", "--wait=false", "persistentvolume", p.ns}})
		if err != nil {
			p.Error(err)
		}
		_ = os.RemoveAll(dir) // the Coordinator may still be writing
	})
}

// defaultClass is the storage class of claims that name none, and whether it makes volumes.
func (p *plane) defaultClass() (name string, provisioned bool) {
	p.Helper()
	classes, err := p.Kube.StorageV1().StorageClasses().List(p.Context(), metav1.ListOptions{})
	if err != nil {
		p.Fatal(err)
	}
	for _, s := range classes.Items {
		if s.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return s.Name, s.Provisioner != "kubernetes.io/no-provisioner"
		}
	}
	return "", false
}
