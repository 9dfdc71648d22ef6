// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"fmt"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// testRestart: with two replicas, nobody who creates Marbles notices that the injector is rolled out again, or that one
// of its Pods is deleted.
func testRestart(in *installation) {
	s := in.keepCreating()
	s.more(20)
	in.Kubectl("-n", in.ns, "rollout", "restart", "deployment/marble-injector")
	in.DeploymentReady(in.ns, "marble-injector")
	s.more(20)
	s.stopWithoutFailure("injector rolled out again")

	s = in.keepCreating()
	in.Kubectl("-n", in.ns, "delete", "pod", in.replicas()[0].Name)
	in.DeploymentReady(in.ns, "marble-injector")
	s.more(20)
	s.stopWithoutFailure("Pod of the injector deleted")

	in.run("killed", testKilled)
}

// testKilled: a process that ends without a word takes calls in work with it. Those fail, as failurePolicy says, until the
// node has noticed; then all is well again.
func testKilled(in *installation) {
	in.NodeOnly()
	pod := in.replicas()[0]
	pid, err := processOf(pod.UID)
	if err != nil {
		in.Fatal(err)
	}
	s := in.keepCreating()
	s.more(20)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		in.Fatal(err)
	}
	in.PodIs(in.ns, pod.Name, "is started again", func(pod *corev1.Pod) error {
		if status := pod.Status.ContainerStatuses[0]; status.RestartCount == 0 || !status.Ready {
			return fmt.Errorf("%d restarts, ready: %t", status.RestartCount, status.Ready)
		}
		return nil
	})
	s.more(20)
	created, failed, why := s.stop()
	in.Figure("process of the injector killed: %d Pods were created, %d were not %v", created, failed, why)
}
