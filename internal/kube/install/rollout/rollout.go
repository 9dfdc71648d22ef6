// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package rollout tells how far the parts of MarbleRun are on their way to running, and what holds them up.
//
// A part is a Deployment. The injector is there when its Pods are available and the API server knows the CA of its
// certificate. The Coordinator is there when its container has started: it becomes ready, in the sense of Kubernetes,
// only with a manifest, and nobody should have to wait for that.
//
// Invariants: looking changes nothing. A reason is what Kubernetes says, shortened but not reworded, and a hint says
// what to do about it; what cannot be read for lack of permission is left out, and only the Deployment itself must be
// readable. Old Pods do not count: a part is there when all its Pods, but for those that are ending, are of the latest
// change.
package rollout

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Names of what the chart installs.
const (
	CoordinatorName = "marblerun-coordinator"
	InjectorName    = "marble-injector"
)

// Part is what to look at.
type Part struct {
	// Deployment is its name.
	Deployment string
	// Started: it is enough that the containers have started; they need not be ready.
	Started bool
	// Webhook is a MutatingWebhookConfiguration that must know a CA; empty: none.
	Webhook string
}

// Coordinator is the part of that name.
func Coordinator() Part { return Part{Deployment: CoordinatorName, Started: true} }

// Injector is the part of that name in a namespace.
func Injector(namespace string) Part {
	return Part{Deployment: InjectorName, Webhook: InjectorName + "-" + namespace}
}

// Reason is something that holds a part up.
type Reason struct {
	// Object is what it is about, e.g. "Pod marblerun-coordinator-5d4f".
	Object string `json:"object"`
	// Text is what Kubernetes says about it.
	Text string `json:"text"`
	// Hint is what to do; empty: wait.
	Hint string `json:"hint,omitempty"`
}

// String is the reason in one line.
func (r Reason) String() string { return r.Object + ": " + r.Text }

// Status is how far a part is.
type Status struct {
	// Name is the Deployment's.
	Name string `json:"name"`
	// Found: the Deployment exists.
	Found bool `json:"found"`
	// Ready of Wanted Pods are there, in the sense of Part.
	Ready  int `json:"ready"`
	Wanted int `json:"wanted"`
	// Done: the part is there.
	Done bool `json:"done"`
	// Reasons hold it up.
	Reasons []Reason `json:"reasons,omitempty"`
}

// String is the status in a few words, without reasons.
func (s Status) String() string {
	if !s.Found {
		return s.Name + " is not installed on this cluster"
	}
	return fmt.Sprintf("%s pods ready: %d/%d", s.Name, s.Ready, s.Wanted)
}

// Look looks once. It fails only if the Deployment cannot be read; its absence is a status.
func Look(ctx context.Context, client kubernetes.Interface, namespace string, part Part) (Status, error) {
	status := Status{Name: part.Deployment}
	d, err := client.AppsV1().Deployments(namespace).Get(ctx, part.Deployment, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return status, nil
	}
	if err != nil {
		return status, fmt.Errorf("reading Deployment %s: %w", part.Deployment, err)
	}
	status.Found, status.Wanted = true, wanted(d)
	l := &look{ctx: ctx, client: client, namespace: namespace}
	current, old, ending := l.pods(d)
	for _, pod := range current {
		if there(&pod, part.Started) {
			status.Ready++
			continue
		}
		status.Reasons = append(status.Reasons, l.pod(&pod)...)
	}
	status.Reasons = append(status.Reasons, l.deployment(d, current, old, ending)...)
	webhook := l.webhook(part.Webhook)
	status.Reasons = append(status.Reasons, webhook...)
	status.Done = status.Wanted > 0 && status.Ready >= status.Wanted && len(old) == 0 && len(webhook) == 0 &&
		d.Status.ObservedGeneration >= d.Generation
	return status, nil
}

// look is one look.
type look struct {
	ctx       context.Context
	client    kubernetes.Interface
	namespace string
}

func wanted(d *appsv1.Deployment) int {
	if d.Spec.Replicas == nil {
		return 1
	}
	return int(*d.Spec.Replicas)
}

// there: all containers have started, or the Pod is ready.
func there(pod *corev1.Pod, started bool) bool {
	if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
		return false
	}
	if !started {
		return condition(pod, corev1.PodReady) == corev1.ConditionTrue
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.Started == nil || !*c.Started || c.State.Running == nil {
			return false
		}
	}
	return len(pod.Status.ContainerStatuses) > 0
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// pods returns the Deployment's Pods: those of its latest template, those of older ones, and those that are on their
// way out. Pods that have ended (evicted, out of memory) are nobody's.
func (l *look) pods(d *appsv1.Deployment) (current, old, ending []corev1.Pod) {
	selector := metav1.FormatLabelSelector(d.Spec.Selector)
	list, err := l.client.CoreV1().Pods(l.namespace).List(l.ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, nil, nil
	}
	hash := l.templateHash(d, selector)
	for _, pod := range list.Items {
		switch {
		case pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
		case pod.DeletionTimestamp != nil:
			ending = append(ending, pod)
		case hash != "" && pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != hash:
			old = append(old, pod)
		default:
			current = append(current, pod)
		}
	}
	return current, old, ending
}

// revisionAnnotation numbers a Deployment's templates, on the Deployment and on its ReplicaSets.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// templateHash is the label of the Pods of the latest template; empty if it cannot be told.
func (l *look) templateHash(d *appsv1.Deployment, selector string) string {
	sets, err := l.client.AppsV1().ReplicaSets(l.namespace).List(l.ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return ""
	}
	for _, set := range sets.Items {
		if metav1.IsControlledBy(&set, d) && set.Annotations[revisionAnnotation] == d.Annotations[revisionAnnotation] {
			return set.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		}
	}
	return ""
}
