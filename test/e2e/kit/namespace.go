// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace makes a namespace of its own for the test, named after purpose, with labels given as key, value, … It is
// deleted after the test, and shown if the test failed.
func (k *Kit) Namespace(purpose string, labels ...string) string {
	k.Helper()
	set := map[string]string{}
	for i := 0; i+1 < len(labels); i += 2 {
		set[labels[i]] = labels[i+1]
	}
	ctx, cancel := k.brief()
	defer cancel()
	n, err := k.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-" + purpose + "-", Labels: set}}, metav1.CreateOptions{})
	if err != nil {
		k.Fatal(err)
	}
	k.DeletesNamespace(n.Name)
	// Pods are refused until the namespace has its default service account.
	k.Eventually("namespace "+n.Name+" is usable", func(ctx context.Context) error {
		_, err := k.Kube.CoreV1().ServiceAccounts(n.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return n.Name
}

// DeletesNamespace deletes a namespace that somebody else makes, e.g. marblerun install, after the test, and shows it if
// the test failed. It waits for its end: the name is fixed, and another test may need it.
func (k *Kit) DeletesNamespace(name string) {
	k.Cleanup(func() {
		k.ShowIfFailed(name)
		k.deleteNamespace(name)
	})
}

// shown are namespaces that have been shown.
type shown struct {
	mu    sync.Mutex
	names map[string]bool
}

func (s *shown) add(name string) (isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[name] {
		return false
	}
	if s.names == nil {
		s.names = map[string]bool{}
	}
	s.names[name] = true
	return true
}

// ShowIfFailed is Show if the test has failed, unless the namespace was shown before: for cleanups that take something
// away before the namespace is deleted.
func (k *Kit) ShowIfFailed(namespace string) {
	if k.Failed() && k.shown.add(namespace) {
		k.Show(namespace)
	}
}

func (k *Kit) deleteNamespace(name string) {
	ctx, cancel := k.brief()
	defer cancel()
	err := k.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	if err != nil && !apierrors.IsConflict(err) {
		k.Errorf("deleting namespace %s: %v", name, err)
	}
	// Nothing in it is worth the usual 30 seconds.
	second := int64(1)
	_ = k.Kube.CoreV1().Pods(name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &second},
		metav1.ListOptions{}) // the namespace's own deletion takes care of what this misses
	if strings.HasPrefix(name, "e2e-") {
		return // nobody else uses the name
	}
	for { // brief ends it
		_, err := k.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		if ctx.Err() != nil {
			k.Errorf("namespace %s does not end: %v", name, err)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// Show logs what is in a namespace: objects, events, and the end of all logs.
func (k *Kit) Show(namespace string) {
	k.Logf("---- namespace %s ----", namespace)
	for _, args := range [][]string{
		{"get", "deployments,statefulsets,daemonsets,jobs,pods,services,endpointslices,persistentvolumeclaims", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp", "-o",
			"custom-columns=TIME:.lastTimestamp,TYPE:.type,ON:.involvedObject.name,REASON:.reason,MESSAGE:.message"},
	} {
		out, err := k.Try(Command{Args: append([]string{"kubectl", "-n", namespace}, args...), Within: time.Minute})
		if err != nil {
			k.Log(err)
		}
		k.Log(last(out.Stdout, 60))
	}
	ctx, cancel := k.brief()
	defer cancel()
	pods, err := k.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: 20})
	if err != nil {
		k.Log(err)
		return
	}
	for _, pod := range pods.Items {
		k.showPod(ctx, &pod)
	}
}

func (k *Kit) showPod(ctx context.Context, pod *corev1.Pod) {
	k.Logf("---- Pod %s: %s", pod.Name, State(pod))
	all := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, c := range all {
		for _, previous := range []bool{true, false} {
			if previous && c.RestartCount == 0 {
				continue
			}
			lines := int64(60)
			text, err := k.Kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name,
				&corev1.PodLogOptions{Container: c.Name, TailLines: &lines, Previous: previous}).DoRaw(ctx)
			if err != nil {
				text = fmt.Append(text, err)
			}
			k.Logf("---- log of %s/%s (previous: %t)\n%s", pod.Name, c.Name, previous, text)
		}
	}
}

// last returns the last lines of a text, under its first, which is a heading.
func last(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) <= n+1 {
		return strings.Join(lines, "\n")
	}
	return lines[0] + "\n…\n" + strings.Join(lines[len(lines)-n:], "\n")
}
