// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/marblerun/marblerun/api"
)

// Objects that MarbleRun's CLI and Coordinators make beside the release.
const (
	webhookSecret = "marble-injector-webhook-certs"
	requestPrefix = "marble-injector." // and the namespace: a CertificateSigningRequest
)

// Removal is what to uninstall.
type Removal struct {
	// DeleteState deletes the sealed state, too.
	DeleteState bool
	// Timeout bounds the wait for objects to be gone.
	Timeout time.Duration
}

// Removed is what Uninstall did.
type Removed struct {
	// Release is the one that was uninstalled; empty: there was none.
	Release string `json:"release,omitempty"`
	// Objects were deleted.
	Objects []Key `json:"removed"`
	// Left are objects that are still there, with the command that removes each.
	Left []Left `json:"left"`
}

// Left is an object that an uninstallation leaves.
type Left struct {
	Key
	// Why it is left, in a few words, and the Command that removes it.
	Why     string `json:"why"`
	Command string `json:"command"`
}

// Uninstall removes the release. It is no error that parts of it are gone already; that there is none is, unless there
// is a state to delete. With an error of waiting it also returns what was done before.
func (i *Installer) Uninstall(ctx context.Context, r Removal, progress func(step string)) (*Removed, error) {
	last, err := i.Release(ctx)
	if err != nil {
		return nil, err
	}
	removed := &Removed{Objects: []Key{}, Left: []Left{}}
	switch {
	case last != nil && last.Info.Status != common.StatusUninstalled:
		if err := i.removeRelease(last, removed, progress); err != nil {
			return nil, i.cluster.Explain(fmt.Errorf("uninstalling MarbleRun: %w", err))
		}
	case !r.DeleteState || !i.hasClaim(ctx):
		return nil, i.noRelease(ctx)
	}
	err = i.complete(ctx, last, r, removed, progress)
	if ctx.Err() == nil {
		i.left(ctx, removed)
	}
	return removed, i.cluster.Explain(err)
}

// complete removes what the release does not have, and waits until all is gone.
func (i *Installer) complete(
	ctx context.Context, last *release.Release, r Removal, removed *Removed, progress func(string),
) error {
	if err := i.leftovers(ctx, removed); err != nil {
		return err
	}
	if removed.Release != "" {
		err := i.awaitGone(ctx, last.Manifest, r.Timeout, progress)
		if errors.Is(err, context.Canceled) {
			return api.WithHint(errors.New("interrupted while waiting; MarbleRun is uninstalled, and its Pods are ending"),
				fmt.Sprintf("kubectl -n %s get pods", i.cluster.Namespace))
		}
		if err != nil {
			return fmt.Errorf("uninstalling MarbleRun: %w", err)
		}
	}
	if !r.DeleteState {
		return nil
	}
	progress("deleting the sealed state")
	return i.deleteState(ctx, r.Timeout, removed)
}

// noRelease is the error if there is nothing to uninstall, in the words of Helm.
func (i *Installer) noRelease(ctx context.Context) error {
	err := fmt.Errorf("uninstall: Release not loaded: %s: release: not found", ReleaseName)
	hint := fmt.Sprintf("MarbleRun is not installed in namespace %s. -n names another one.", i.cluster.Namespace)
	if i.hasClaim(ctx) {
		hint += " A sealed state is left there, which --delete-state deletes."
	}
	return api.WithHint(err, hint)
}

// removeRelease has Helm delete the release's objects. Kubernetes takes a while for that.
func (i *Installer) removeRelease(last *release.Release, removed *Removed, progress func(string)) error {
	objects, err := i.keepState(last)
	if err != nil {
		return err
	}
	live, err := i.live(last.Manifest)
	if err != nil {
		return err
	}
	run := action.NewUninstall(i.config)
	run.WaitStrategy, run.Timeout = kube.HookOnlyStrategy, hookTimeout
	run.DeletionPropagation = "foreground" // a Deployment is gone when its Pods are
	progress(fmt.Sprintf("removing release %s", last.Name))
	if _, err := run.Run(last.Name); err != nil {
		return err
	}
	removed.Release = last.Name
	for _, object := range live {
		if o := objects.find(object.Kind, object.Name); object.found && (o == nil || !kept(o)) {
			removed.Objects = append(removed.Objects, object.Key)
		}
	}
	return nil
}

// awaitGone waits until objects that are being deleted are gone. Those that are not, stay.
func (i *Installer) awaitGone(
	ctx context.Context, manifest string, timeout time.Duration, progress func(string),
) error {
	deadline := i.now().Add(timeout)
	for {
		live, err := i.live(manifest)
		if err != nil {
			return err
		}
		ending := slices.IndexFunc(live, func(o liveObject) bool { return o.ending })
		if ending < 0 {
			return nil
		}
		if i.now().After(deadline) {
			return api.WithHint(fmt.Errorf("%s is being deleted, and still there after %v", live[ending].Key, timeout),
				fmt.Sprintf("kubectl -n %s describe %s", i.cluster.Namespace, live[ending].Key))
		}
		progress(fmt.Sprintf("waiting for %s to be gone", live[ending].Key))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func kept(o *unstructured.Unstructured) bool {
	return o.GetAnnotations()[kube.ResourcePolicyAnno] == kube.KeepPolicy
}

// keepState makes sure that Helm does not delete the claim of the state, also if it is a chart's that does not say so:
// Helm goes by the manifest in its record.
func (i *Installer) keepState(last *release.Release) (Objects, error) {
	objects, err := ParseManifest(last.Manifest)
	if err != nil {
		return nil, err
	}
	claim := objects.find("PersistentVolumeClaim", StateClaim)
	if claim == nil || kept(claim) {
		return objects, nil
	}
	annotations := claim.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[kube.ResourcePolicyAnno] = kube.KeepPolicy
	claim.SetAnnotations(annotations)
	if last.Manifest, err = objects.manifest(); err != nil {
		return nil, err
	}
	if err := i.config.Releases.Update(last); err != nil {
		return nil, fmt.Errorf("recording that the state is kept: %w", err)
	}
	return objects, nil
}

// leftovers removes what MarbleRun's CLI made beside the release. Who may not, is left to the administrator.
func (i *Installer) leftovers(ctx context.Context, removed *Removed) error {
	client, namespace := i.cluster.Client, i.cluster.Namespace
	err := client.CoreV1().Secrets(namespace).Delete(ctx, webhookSecret, metav1.DeleteOptions{})
	if err == nil {
		removed.Objects = append(removed.Objects, Key{"Secret", namespace, webhookSecret})
	} else if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("deleting Secret %s: %w", webhookSecret, err)
	}
	name := requestPrefix + namespace
	err = client.CertificatesV1().CertificateSigningRequests().Delete(ctx, name, metav1.DeleteOptions{})
	if err == nil {
		removed.Objects = append(removed.Objects, Key{"CertificateSigningRequest", "", name})
	} else if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("deleting CertificateSigningRequest %s: %w", name, err)
	}
	return nil
}

func (i *Installer) hasClaim(ctx context.Context) bool {
	claims := i.cluster.Client.CoreV1().PersistentVolumeClaims(i.cluster.Namespace)
	_, err := claims.Get(ctx, StateClaim, metav1.GetOptions{})
	return err == nil
}

// deleteState deletes the claim and waits until it is gone.
func (i *Installer) deleteState(ctx context.Context, timeout time.Duration, removed *Removed) error {
	claims := i.cluster.Client.CoreV1().PersistentVolumeClaims(i.cluster.Namespace)
	err := claims.Delete(ctx, StateClaim, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting the sealed state: %w", err)
	}
	deadline := i.now().Add(timeout)
	for {
		_, err := claims.Get(ctx, StateClaim, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			break
		}
		if err != nil {
			return fmt.Errorf("deleting the sealed state: %w", err)
		}
		if i.now().After(deadline) {
			return api.WithHint(errors.New("deleting the sealed state: its PersistentVolumeClaim is still in use"),
				fmt.Sprintf("kubectl -n %s describe pvc %s", i.cluster.Namespace, StateClaim))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("deleting the sealed state: %w", ctx.Err())
		case <-time.After(time.Second):
		}
	}
	removed.Objects = append(removed.Objects, Key{"PersistentVolumeClaim", i.cluster.Namespace, StateClaim})
	return nil
}

// left looks for what is still there. What may not be read is left out.
func (i *Installer) left(ctx context.Context, removed *Removed) {
	client, namespace := i.cluster.Client, i.cluster.Namespace
	add := func(err error, kind, name, resource, why string) {
		if err == nil {
			command := strings.TrimSpace(fmt.Sprintf("kubectl -n %s delete %s %s", namespace, resource, name))
			removed.Left = append(removed.Left, Left{Key{kind, namespace, name}, why, command})
		}
	}
	claim, err := client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, StateClaim, metav1.GetOptions{})
	why := "the sealed state, which a new installation goes on with"
	if err == nil && claim.DeletionTimestamp != nil {
		why = "the sealed state, which Kubernetes deletes when no Pod uses it any more"
	}
	add(err, "PersistentVolumeClaim", StateClaim, "pvc", why)
	_, err = client.CoreV1().Secrets(namespace).Get(ctx, "marblerun-state", metav1.GetOptions{})
	add(err, "Secret", "marblerun-state", "secret", "the sealed state of a distributed Coordinator")
	_, err = client.CoreV1().ConfigMaps(namespace).Get(ctx, "marblerun-sealed-kek", metav1.GetOptions{})
	add(err, "ConfigMap", "marblerun-sealed-kek", "configmap", "the key of that state")
	if _, err = client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err == nil {
		removed.Left = append(removed.Left, Left{Key{"Namespace", "", namespace}, "it may hold more than MarbleRun",
			"kubectl delete namespace " + namespace})
	}
}
