// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/marblerun/marblerun/internal/kube/install"
)

// need is a permission: verbs on a resource.
type need struct {
	group, resource, namespace string
	verbs                      []string
}

// String is as in 'kubectl auth can-i'.
func (n need) String() string {
	name := n.resource
	if n.group != "" {
		name += "." + n.group
	}
	if n.namespace == "" {
		return name + " (of the cluster)"
	}
	return name
}

// permissions asks the API server whether the user may do what install does.
func (p Prechecker) permissions(ctx context.Context) []Check {
	check := Check{Name: permissions, Status: OK, Text: "enough to install"}
	all, err := p.lacking(ctx, true)
	if err != nil {
		return []Check{unknown(check, err)}
	}
	if len(all) == 0 {
		return []Check{check}
	}
	check.Status, check.Text = Problem, "missing: "+strings.Join(all, "; ")
	check.Hint = fmt.Sprintf("Ask an administrator for them in namespace %s, or to install MarbleRun.",
		p.Cluster.Namespace)
	if rest, err := p.lacking(ctx, false); err == nil && len(rest) == 0 {
		check.Hint += " Without the injector you have all it takes: --disable-auto-injection."
	}
	return []Check{check}
}

// lacking are the permissions that the user does not have, as "get, create deployments.apps".
func (p Prechecker) lacking(ctx context.Context, injector bool) ([]string, error) {
	needs, err := p.needs(ctx, injector)
	if err != nil {
		return nil, err
	}
	var lacking []string
	for _, n := range needs {
		var verbs []string
		for _, verb := range n.verbs {
			allowed, err := p.may(ctx, n, verb)
			if err != nil {
				return nil, err
			}
			if !allowed {
				verbs = append(verbs, verb)
			}
		}
		if len(verbs) > 0 {
			lacking = append(lacking, strings.Join(verbs, ", ")+" "+n.String())
		}
	}
	return lacking, nil
}

func (p Prechecker) may(ctx context.Context, n need, verb string) (bool, error) {
	review, err := p.Cluster.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: n.group, Resource: n.resource, Namespace: n.namespace, Verb: verb,
			},
		}}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// needs are the permissions for the chart's objects and Helm's records, without repetition.
func (p Prechecker) needs(ctx context.Context, injector bool) ([]need, error) {
	needs := []need{{resource: "secrets", namespace: p.Cluster.Namespace,
		verbs: []string{"get", "list", "create", "patch", "update", "delete"}}}
	namespaces := p.Cluster.Client.CoreV1().Namespaces()
	if _, err := namespaces.Get(ctx, p.Cluster.Namespace, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		needs = append(needs, need{resource: "namespaces", verbs: []string{"create"}})
	}
	mapper, err := p.Mapper()
	if err != nil {
		return nil, err
	}
	info, err := p.Cluster.Client.Discovery().ServerVersion()
	if err != nil {
		return nil, err
	}
	values := map[string]any{"marbleInjector": map[string]any{"start": injector}}
	kinds, err := install.Kinds(p.Chart, info.GitVersion, p.Cluster.Namespace, values)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		mapping, err := mapper.RESTMapping(schema.GroupKind{Group: kind.Group, Kind: kind.Kind}, kind.Version)
		if err != nil {
			return nil, err
		}
		n := need{group: mapping.Resource.Group, resource: mapping.Resource.Resource,
			verbs: []string{"get", "create", "patch", "delete"}}
		if mapping.Scope.Name() == "namespace" {
			n.namespace = p.Cluster.Namespace
		}
		if !slices.ContainsFunc(needs, func(o need) bool { return o.group == n.group && o.resource == n.resource }) {
			needs = append(needs, n)
		}
	}
	return needs, nil
}

// defaultClass marks the StorageClass of claims that name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// storage looks for what the claim of the state can be bound to.
func (p Prechecker) storage(ctx context.Context) Check {
	check := Check{Name: "Storage", Status: OK}
	claims := p.Cluster.Client.CoreV1().PersistentVolumeClaims(p.Cluster.Namespace)
	if claim, err := claims.Get(ctx, install.StateClaim, metav1.GetOptions{}); err == nil &&
		claim.Status.Phase == corev1.ClaimBound {
		check.Text = "the claim of the state is bound already"
		return check
	}
	classes, err := p.Cluster.Client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return unknown(check, err)
	}
	var names []string
	for _, class := range classes.Items {
		if class.Annotations[defaultClass] == "true" {
			check.Text = "default StorageClass " + class.Name
			return check
		}
		names = append(names, class.Name)
	}
	if volume := p.volume(ctx); volume != "" {
		check.Text = "no default StorageClass, but PersistentVolume " + volume + " fits"
		return check
	}
	check.Status, check.Text = Problem, "no default StorageClass, and no PersistentVolume that fits"
	check.Hint = "Create one of them: the Coordinator keeps its sealed state there."
	if len(names) > 0 {
		check.Hint = "Name a class with --set coordinator.storageClass=NAME: there are " + strings.Join(names, ", ") + "."
	}
	return check
}

// volume is a free PersistentVolume without a class that is large enough; empty: there is none, or no permission to
// look.
func (p Prechecker) volume(ctx context.Context) string {
	volumes, err := p.Cluster.Client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return ""
	}
	least := resource.MustParse("256Mi") // the chart's default
	for _, v := range volumes.Items {
		capacity := v.Spec.Capacity[corev1.ResourceStorage]
		if v.Status.Phase == corev1.VolumeAvailable && v.Spec.StorageClassName == "" && v.Spec.ClaimRef == nil &&
			slices.Contains(v.Spec.AccessModes, corev1.ReadWriteOnce) && capacity.Cmp(least) >= 0 {
			return v.Name
		}
	}
	return ""
}
