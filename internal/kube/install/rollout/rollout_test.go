// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/install/rollout"
)

const ns = "mr"

// world is a Deployment with its ReplicaSet of template "new", and Pods.
func world(name string, objects ...runtime.Object) []runtime.Object {
	labels := map[string]string{"app": name}
	revision := map[string]string{"deployment.kubernetes.io/revision": "2"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, UID: "d", Annotations: revision},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}
	controller := true
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Name: name + "-new", Namespace: ns, Annotations: revision,
		Labels:          map[string]string{"app": name, "pod-template-hash": "new"},
		OwnerReferences: []metav1.OwnerReference{{UID: "d", Controller: &controller}},
	}}
	return append([]runtime.Object{d, set}, objects...)
}

// pod is a Pod of the Deployment marblerun-coordinator.
func pod(template string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "c-" + template, Namespace: ns, Labels: map[string]string{
			"app": rollout.CoordinatorName, "pod-template-hash": template,
		}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	change(p)
	return p
}

func running(started, ready bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "coordinator", Started: &started, Ready: ready,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
		if ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
	}
}

func waiting(reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name:  "coordinator",
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}
	}
}

func unscheduled(message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: message,
		}}
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"},
		}}}
	}
}

func event(kind, name, reason, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name + reason, Namespace: ns},
		Reason:     reason, Message: message, InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name},
	}
}

// at is the event at a time, in seconds.
func at(seconds int64, e *corev1.Event) *corev1.Event {
	e.LastTimestamp = metav1.Unix(seconds, 0)
	return e
}

func claim(phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "claim", Namespace: ns},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

func TestLook(t *testing.T) {
	tests := map[string]struct {
		objects []runtime.Object
		done    bool
		ready   int
		reasons []string
		hint    string // part of the first reason's
	}{
		"started, not ready": {objects: []runtime.Object{pod("new", running(true, false))}, done: true, ready: 1},
		"not started": {
			objects: []runtime.Object{pod("new", running(false, false))},
			reasons: []string{"Pod c-new: container coordinator runs, waiting for its first answer"},
		},
		"failing probe": {
			objects: []runtime.Object{pod("new", running(false, false)),
				event("Pod", "c-new", "Started", "Started container"),
				event("Pod", "c-new", "Unhealthy", "Startup probe failed: connection refused")},
			reasons: []string{"Pod c-new: container coordinator runs, waiting for its first answer: " +
				"Startup probe failed: connection refused"},
		},
		"no SGX": {
			objects: []runtime.Object{claim(corev1.ClaimBound),
				pod("new", unscheduled("0/1 nodes are available: 1 Insufficient sgx.intel.com/epc."))},
			reasons: []string{"Pod c-new: not scheduled: 0/1 nodes are available: 1 Insufficient sgx.intel.com/epc."},
			hint:    "--simulation",
		},
		"claim pending": {
			objects: []runtime.Object{claim(corev1.ClaimPending),
				event("PersistentVolumeClaim", "claim", "FailedBinding", "no persistent volumes available"),
				pod("new", unscheduled("pod has unbound immediate PersistentVolumeClaims"))},
			reasons: []string{"PersistentVolumeClaim claim: is pending: no persistent volumes available",
				"Pod c-new: not scheduled: pod has unbound immediate PersistentVolumeClaims"},
			hint: "default StorageClass",
		},
		"claim waits for the Pod": {
			objects: []runtime.Object{claim(corev1.ClaimPending),
				event("PersistentVolumeClaim", "claim", "WaitForFirstConsumer", "waiting for first consumer to be created"),
				pod("new", unscheduled("1 node(s) had untolerated taint {a: b}"))},
			reasons: []string{"Pod c-new: not scheduled: 1 node(s) had untolerated taint {a: b}"}, hint: "tolerate",
		},
		"no claim": {
			objects: []runtime.Object{pod("new", unscheduled(`persistentvolumeclaim "claim" not found`))},
			reasons: []string{"PersistentVolumeClaim claim: does not exist",
				`Pod c-new: not scheduled: persistentvolumeclaim "claim" not found`},
		},
		"no image": {
			objects: []runtime.Object{pod("new", waiting("ImagePullBackOff", "Back-off\n  pulling"))},
			reasons: []string{"Pod c-new: container coordinator: ImagePullBackOff: Back-off pulling"}, hint: "registry",
		},
		"no image, told by the kubelet that waits": {
			objects: []runtime.Object{pod("new", waiting("ImagePullBackOff",
				`Back-off pulling image "i": ErrImagePull: failed to pull: `+strings.Repeat("-", 400)+": no such host"))},
			reasons: []string{"Pod c-new: container coordinator: ErrImagePull: failed to pull: " + strings.Repeat("-", 120) +
				"…" + strings.Repeat("-", 136) + ": no such host"},
			hint: "registry",
		},
		"no image for SGX": {
			objects: []runtime.Object{pod("new", waiting("ErrImagePull", `failed to pull "r/coordinator-sgx:v1"`))},
			reasons: []string{`Pod c-new: container coordinator: ErrImagePull: failed to pull "r/coordinator-sgx:v1"`},
			hint:    "you build it",
		},
		"settled before the Pod was scheduled": {
			objects: []runtime.Object{pod("new", func(p *corev1.Pod) {
				waiting("ContainerCreating", "")(p)
				p.Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(100, 0),
				}}
			}), at(99, event("Pod", "c-new", "FailedScheduling", "no node"))},
			reasons: []string{"Pod c-new: container coordinator is being created"},
		},
		"settled before the container started": {
			objects: []runtime.Object{pod("new", func(p *corev1.Pod) {
				running(false, false)(p)
				p.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.Unix(100, 0)
			}), at(99, event("Pod", "c-new", "Failed", "Error: ImagePullBackOff"))},
			reasons: []string{"Pod c-new: container coordinator runs, waiting for its first answer"},
		},
		"crash": {
			objects: []runtime.Object{pod("new", func(p *corev1.Pod) {
				waiting("CrashLoopBackOff", "back-off 10s")(p)
				p.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "OOMKilled",
				}
			})},
			reasons: []string{"Pod c-new: container coordinator: CrashLoopBackOff: back-off 10s (ended with exit code 137, OOMKilled)"},
			hint:    "kubectl -n mr logs c-new --previous",
		},
		"volume not mounted": {
			objects: []runtime.Object{pod("new", waiting("ContainerCreating", "")),
				event("Pod", "c-new", "FailedMount", "MountVolume.SetUp failed")},
			reasons: []string{"Pod c-new: container coordinator is being created: MountVolume.SetUp failed"},
		},
		"an old Pod is ending": {
			objects: []runtime.Object{pod("old", func(p *corev1.Pod) {
				running(true, true)(p)
				p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"x"}
			})},
			reasons: []string{"Pod c-old: is replaced, waiting for it to end"},
		},
		"an old Pod runs": {
			objects: []runtime.Object{pod("old", running(true, true)), pod("new", running(true, true))},
			ready:   1, reasons: []string{"Pod c-old: is of the version before, and not replaced yet"},
		},
		"evicted Pods are nobody's": {
			objects: []runtime.Object{pod("old", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
				pod("new", running(true, true))},
			ready: 1, done: true,
		},
		"no Pod yet": {reasons: []string{"Deployment marblerun-coordinator: 0 of 1 Pods created"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client := fake.NewSimpleClientset(world(rollout.CoordinatorName, test.objects...)...)
			status, err := rollout.Look(t.Context(), client, ns, rollout.Coordinator())
			if err != nil {
				t.Fatal(err)
			}
			var reasons []string
			for _, r := range status.Reasons {
				reasons = append(reasons, r.String())
			}
			if diff := cmp.Diff(test.reasons, reasons); diff != "" {
				t.Error(diff)
			}
			if status.Done != test.done || status.Ready != test.ready || status.Wanted != 1 || !status.Found {
				t.Errorf("got %+v", status)
			}
			if test.hint != "" && !strings.Contains(status.Reasons[0].Hint, test.hint) {
				t.Errorf("hint %q", status.Reasons[0].Hint)
			}
		})
	}
}

// A Deployment that may create no Pods says so itself.
func TestQuota(t *testing.T) {
	objects := world(rollout.CoordinatorName)
	d := objects[0].(*appsv1.Deployment)
	d.Status.Conditions = []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "pods is forbidden: exceeded quota: q",
	}}
	status, err := rollout.Look(t.Context(), fake.NewSimpleClientset(objects...), ns, rollout.Coordinator())
	want := []rollout.Reason{{
		Object: "Deployment marblerun-coordinator", Text: "pods is forbidden: exceeded quota: q",
		Hint: "kubectl -n mr describe resourcequota",
	}}
	if diff := cmp.Diff(want, status.Reasons); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// No replicas are not ready (pains C10).
func TestNoReplicas(t *testing.T) {
	objects := world(rollout.CoordinatorName)
	zero := int32(0)
	objects[0].(*appsv1.Deployment).Spec.Replicas = &zero
	status, err := rollout.Look(t.Context(), fake.NewSimpleClientset(objects...), ns, rollout.Coordinator())
	if err != nil || status.Done || status.String() != "marblerun-coordinator pods ready: 0/0" {
		t.Errorf("got %+v, %v", status, err)
	}
}

func hook(ca string) *admissionv1.MutatingWebhookConfiguration {
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "marble-injector-mr"},
		Webhooks: []admissionv1.MutatingWebhook{{
			ClientConfig: admissionv1.WebhookClientConfig{CABundle: []byte(ca)},
		}},
	}
}

// The injector is there when its Pods are ready and the API server can trust them.
func TestInjector(t *testing.T) {
	injectorPod := func(ready bool) runtime.Object {
		p := pod("new", running(true, ready))
		p.Labels["app"] = rollout.InjectorName
		return p
	}
	tests := map[string]struct {
		objects []runtime.Object
		done    bool
		reason  string
	}{
		"there": {[]runtime.Object{injectorPod(true), hook("CA")}, true, ""},
		"not ready": {[]runtime.Object{injectorPod(false), hook("CA")}, false,
			"Pod c-new: container coordinator has started, not ready yet"},
		"no CA": {[]runtime.Object{injectorPod(true), hook("")}, false,
			"MutatingWebhookConfiguration marble-injector-mr: has no caBundle yet: the API server could not trust the injector"},
		"no webhook": {[]runtime.Object{injectorPod(true)}, false,
			"MutatingWebhookConfiguration marble-injector-mr: does not exist: Pods are not injected"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client := fake.NewSimpleClientset(world(rollout.InjectorName, test.objects...)...)
			status, err := rollout.Look(t.Context(), client, ns, rollout.Injector(ns))
			reason := ""
			if len(status.Reasons) > 0 {
				reason = status.Reasons[0].String()
			}
			if err != nil || status.Done != test.done || reason != test.reason {
				t.Errorf("got %+v, %v", status, err)
			}
		})
	}
}

// Being there at the last look counts (pains C10), and a timeout of 0 is one look.
func TestWait(t *testing.T) {
	for name, test := range map[string]struct {
		after, timeout time.Duration
		looks          int
		ok             bool
	}{
		"at once":          {0, 0, 1, true},
		"at the last look": {2500 * time.Millisecond, 2500 * time.Millisecond, 4, true},
		"too late":         {4 * time.Second, 2500 * time.Millisecond, 4, false},
		"one look":         {time.Second, 0, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewSimpleClientset(world(rollout.CoordinatorName)...)
				add := func() {
					if err := client.Tracker().Add(pod("new", running(true, false))); err != nil {
						t.Error(err)
					}
				}
				if test.after == 0 {
					add()
				} else {
					timer := time.AfterFunc(test.after-time.Nanosecond, add)
					defer timer.Stop()
				}
				looks := 0
				parts := []rollout.Part{rollout.Coordinator()}
				_, err := rollout.Wait(t.Context(), client, ns, parts, test.timeout, func([]rollout.Status) { looks++ })
				if (err == nil) != test.ok || looks != test.looks {
					t.Errorf("%d looks, %v", looks, err)
				}
				if err != nil && (!strings.Contains(err.Error(), "(0/1 pods available)\n  Deployment") || api.Hint(err) == "") {
					t.Errorf("%v, hint %q", err, api.Hint(err))
				}
			})
		})
	}
}

func TestWaitForNothing(t *testing.T) {
	client := fake.NewSimpleClientset()
	parts := []rollout.Part{rollout.Coordinator(), rollout.Injector(ns)}
	_, err := rollout.Wait(t.Context(), client, ns, parts, 0, func([]rollout.Status) {})
	want := "marblerun-coordinator is not installed on this cluster\nmarble-injector is not installed on this cluster"
	if err == nil || err.Error() != want || !strings.Contains(api.Hint(err), "marblerun install") {
		t.Errorf("got %v", err)
	}
	// Waiting would not make it.
	_, err = rollout.Wait(t.Context(), client, ns, parts, time.Hour, func([]rollout.Status) {})
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = rollout.Wait(ctx, client, ns, parts, time.Hour, func([]rollout.Status) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
