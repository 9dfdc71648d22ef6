// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// States of a Coordinator, as its status has them.
const (
	StateRecovery         = 1
	StateWaitsForManifest = 2
	StateAccepting        = 3
)

// State is what a Coordinator says about itself.
type State struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// stateTimeout bounds the question for the state. It is for information only.
const stateTimeout = 5 * time.Second

// maxState bounds what a Coordinator can say, in bytes.
const maxState = 64 << 10

// AskState asks the Coordinator for its state through the API server, which passes on whatever the Pod answers: nothing
// about it is verified, and nothing must depend on it that matters.
func AskState(ctx context.Context, client kubernetes.Interface, namespace string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	d, err := client.AppsV1().Deployments(namespace).Get(ctx, CoordinatorName, metav1.GetOptions{})
	if err != nil {
		return State{}, err
	}
	l := &look{ctx: ctx, client: client, namespace: namespace}
	current, _, _ := l.pods(d)
	for _, pod := range current {
		if there(&pod, true) {
			return askPod(ctx, client, &pod)
		}
	}
	return State{}, errors.New("no Coordinator runs")
}

func askPod(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) (State, error) {
	body, err := client.CoreV1().Pods(pod.Namespace).
		ProxyGet("https", pod.Name, clientPort(pod), "api/v2/status", nil).Stream(ctx)
	if err != nil {
		return State{}, err
	}
	defer body.Close()
	var reply struct{ Data State }
	if err := json.NewDecoder(io.LimitReader(body, maxState)).Decode(&reply); err != nil {
		return State{}, fmt.Errorf("understanding the Coordinator's status: %w", err)
	}
	if reply.Data.Code < StateRecovery || reply.Data.Code > StateAccepting {
		return State{}, fmt.Errorf("the Coordinator says it is in state %d", reply.Data.Code)
	}
	return reply.Data, nil
}

// clientPort is the port that the chart names "http", by its number.
func clientPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == "http" {
				return strconv.Itoa(int(p.ContainerPort))
			}
		}
	}
	return "4433"
}
