// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Patience is how long things may take: long enough for a busy machine, so that it says "never", not "too slow".
const Patience = 3 * time.Minute

// errNever ends a wait at once.
var errNever = errors.New("it will never be")

// Never marks an error after which it makes no sense to wait on.
func Never(err error) error { return fmt.Errorf("%w: %w", errNever, err) }

// Eventually tries until there is no error, and fails the test with the last one after Patience. what says what is
// waited for: "the Pod runs".
func (k *Kit) Eventually(what string, try func(context.Context) error) {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), Patience)
	defer cancel()
	last := errors.New("never tried")
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := try(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err // rather than that time is up
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		if ctx.Err() != nil || errors.Is(err, errNever) {
			k.Fatalf("waiting until %s: %v", what, last)
		}
	}
}

// PodIs waits until a Pod is as wanted, and returns it. The condition returns why it is not yet.
func (k *Kit) PodIs(namespace, name, what string, condition func(*corev1.Pod) error) (pod *corev1.Pod) {
	k.Helper()
	k.Eventually("Pod "+name+" "+what, func(ctx context.Context) (err error) {
		if pod, err = k.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		return condition(pod)
	})
	return pod
}

// Ready is the condition of a Pod that runs and is ready.
func Ready(pod *corev1.Pod) error {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("not ready: %s", State(pod))
}

// Unschedulable is the condition of a Pod that the scheduler finds no node for.
func Unschedulable(pod *corev1.Pod) error {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return nil
		}
	}
	return fmt.Errorf("not refused by the scheduler: %s", State(pod))
}

// State tells in a line what a Pod is doing, and why it does not do more.
func State(pod *corev1.Pod) string {
	s := string(pod.Status.Phase)
	if pod.DeletionTimestamp != nil {
		s += ", being deleted"
	}
	for _, c := range pod.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			s += fmt.Sprintf("; %s: %s", c.Type, c.Message)
		}
	}
	all := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, c := range all {
		if w := c.State.Waiting; w != nil {
			s += fmt.Sprintf("; %s waits: %s %s", c.Name, w.Reason, w.Message)
		}
		if e := c.State.Terminated; e != nil {
			s += fmt.Sprintf("; %s ended with %d: %s %s", c.Name, e.ExitCode, e.Reason, e.Message)
		}
	}
	return s
}

// DeploymentReady waits until all Pods of a Deployment's current state are available and no others are left.
func (k *Kit) DeploymentReady(namespace, name string) {
	k.Helper()
	k.Eventually("Deployment "+name+" is rolled out", func(ctx context.Context) error {
		d, err := k.Kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s, want := d.Status, int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.AvailableReplicas != want ||
			s.Replicas != want {
			return fmt.Errorf("%d wanted, %d there, %d updated, %d available", want, s.Replicas, s.UpdatedReplicas,
				s.AvailableReplicas)
		}
		return nil
	})
}
