// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deployment says what holds up the Deployment itself, beside what holds up its Pods.
func (l *look) deployment(d *appsv1.Deployment, current, old, ending []corev1.Pod) []Reason {
	object := "Deployment " + d.Name
	var reasons []Reason
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			reasons = append(reasons, Reason{object, oneLine(c.Message), hint(c.Message, l.namespace, "")})
		}
	}
	switch {
	case wanted(d) == 0:
		return append(reasons, Reason{object, "has 0 replicas",
			fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=1", l.namespace, d.Name)})
	case len(reasons) > 0:
	case len(ending) > 0 && len(current) < wanted(d):
		reasons = append(reasons, Reason{"Pod " + ending[0].Name, "is replaced, waiting for it to end", ""})
	case len(old) > 0:
		reasons = append(reasons, Reason{"Pod " + old[0].Name, "is of the version before, and not replaced yet", ""})
	case len(current) < wanted(d):
		reasons = append(reasons, Reason{object, fmt.Sprintf("%d of %d Pods created", len(current), wanted(d)), ""})
	}
	return reasons
}

// pod says why a Pod is not there yet.
func (l *look) pod(pod *corev1.Pod) []Reason {
	object := "Pod " + pod.Name
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			reasons := l.claims(pod)
			text := "not scheduled: " + oneLine(c.Message)
			return append(reasons, Reason{object, text, hint(c.Message, l.namespace, pod.Name)})
		}
	}
	statuses := append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...)
	for _, c := range statuses {
		if text := l.container(pod, c); text != "" {
			return []Reason{{object, text, hint(text, l.namespace, pod.Name)}}
		}
	}
	if event := l.event("Pod", pod.Name, scheduled(pod)); event != "" {
		return []Reason{{object, event, hint(event, l.namespace, pod.Name)}}
	}
	return []Reason{{object, strings.ToLower(string(pod.Status.Phase)), ""}}
}

// container says why a container does not run; empty: it runs.
func (l *look) container(pod *corev1.Pod, c corev1.ContainerStatus) string {
	switch {
	case c.State.Waiting != nil && c.State.Waiting.Reason == "ContainerCreating":
		text := fmt.Sprintf("container %s is being created", c.Name)
		if event := l.event("Pod", pod.Name, scheduled(pod)); event != "" {
			text += ": " + event
		}
		return text
	case c.State.Waiting != nil && c.State.Waiting.Reason != "PodInitializing":
		text := fmt.Sprintf("container %s: %s", c.Name, oneLine(waits(c.State.Waiting)))
		return text + ended(c.LastTerminationState.Terminated)
	case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
		return fmt.Sprintf("container %s%s", c.Name, ended(c.State.Terminated))
	case c.State.Running != nil && (c.Started == nil || !*c.Started):
		text := fmt.Sprintf("container %s runs, waiting for its first answer", c.Name)
		if event := l.event("Pod", pod.Name, c.State.Running.StartedAt.Time); event != "" {
			text += ": " + event
		}
		return text
	case c.State.Running != nil && !c.Ready:
		return fmt.Sprintf("container %s has started, not ready yet", c.Name)
	}
	return ""
}

// waits says what a container waits for. While the kubelet waits to pull an image again it is what was wrong with it,
// in the same words as before.
func waits(w *corev1.ContainerStateWaiting) string {
	if _, cause, found := strings.Cut(w.Message, ": ErrImagePull: "); found && w.Reason == "ImagePullBackOff" {
		return "ErrImagePull: " + cause
	}
	if w.Message == "" {
		return w.Reason
	}
	return w.Reason + ": " + w.Message
}

// ended says how a container ended last.
func ended(t *corev1.ContainerStateTerminated) string {
	if t == nil {
		return ""
	}
	text := fmt.Sprintf(" (ended with exit code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		text += ", " + t.Reason
	}
	if t.Message != "" {
		text += ": " + oneLine(t.Message)
	}
	return text + ")"
}

// claims says which PersistentVolumeClaims a Pod waits for.
func (l *look) claims(pod *corev1.Pod) []Reason {
	var reasons []Reason
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		object := "PersistentVolumeClaim " + name
		claim, err := l.client.CoreV1().PersistentVolumeClaims(l.namespace).Get(l.ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			reasons = append(reasons, Reason{object, "does not exist", ""})
		case err != nil || claim.Status.Phase != corev1.ClaimPending:
		default:
			event := l.event("PersistentVolumeClaim", name, time.Time{})
			if strings.Contains(event, "first consumer") {
				continue // it waits for the Pod, not the Pod for it
			}
			text := "is pending"
			if event != "" {
				text += ": " + event
			}
			reasons = append(reasons, Reason{object, text, claimHint})
		}
	}
	return reasons
}

// scheduled is when a Pod was given to a node: what was said about it before is settled.
func scheduled(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// event is the latest word about an object since a time; empty: there is none, or it is not for us to read.
func (l *look) event(kind, name string, since time.Time) string {
	list, err := l.client.CoreV1().Events(l.namespace).List(l.ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=" + kind + ",involvedObject.name=" + name,
	})
	if err != nil {
		return ""
	}
	var last *corev1.Event
	for i, e := range list.Items {
		of := e.InvolvedObject
		if of.Kind != kind || of.Name != name || ordinary(e) || when(e).Before(since) {
			continue
		}
		if last == nil || !when(e).Before(when(*last)) {
			last = &list.Items[i]
		}
	}
	if last == nil {
		return ""
	}
	return oneLine(last.Message)
}

// ordinary events say what goes as it should, and are no reason.
func ordinary(e corev1.Event) bool {
	switch e.Reason {
	case "Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "Killing":
		return true
	}
	return e.Message == ""
}

// when is an event's time, wherever its author put it.
func when(e corev1.Event) time.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// webhook says what a webhook configuration lacks.
func (l *look) webhook(name string) []Reason {
	if name == "" {
		return nil
	}
	object := "MutatingWebhookConfiguration " + name
	hooks := l.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	config, err := hooks.Get(l.ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return []Reason{{object, "does not exist: Pods are not injected", "Run 'marblerun install' again; it repairs."}}
	case err != nil:
		return nil
	}
	for _, hook := range config.Webhooks {
		if len(hook.ClientConfig.CABundle) == 0 {
			return []Reason{{object, "has no caBundle yet: the API server could not trust the injector",
				fmt.Sprintf("If this stays so: kubectl -n %s logs deployment/%s", l.namespace, InjectorName)}}
		}
	}
	return nil
}
