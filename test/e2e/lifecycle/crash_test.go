// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// survives crashes the Coordinator. Its state comes back from the claim, Marbles that run do not notice, new ones are
// admitted.
func (p *plane) survives(crash func(*plane)) {
	p.reach(3)
	root, marbles := p.root(), p.pods(p.marbles, "app in (echo-server, echo-client)")
	crash(p)
	p.reach(3)
	p.DeploymentReady(p.ns, coordinator)
	if after := p.root(); after != root {
		p.Errorf("the root certificate was\n%s\nand is\n%s", root, after)
	}
	p.has("manifest verify", p.Marblerun("manifest", "verify", p.manifest(), p.addr, "-i").Stdout, "OK")
	p.ready(meshAPI, true)
	if after := p.pods(p.marbles, "app in (echo-server, echo-client)"); !maps.Equal(marbles, after) {
		p.Errorf("the Marbles were %v and are %v", marbles, after)
	}
	p.newMarble()
	p.goOnTalking()
}

// goOnTalking waits until the client that runs gets another answer.
func (p *plane) goOnTalking() {
	p.Helper()
	before := strings.Count(p.log(p.marbles, "app=echo-client"), "answers")
	p.Eventually("running Marbles go on talking", func(context.Context) error {
		if now := strings.Count(p.log(p.marbles, "app=echo-client"), "answers"); now <= before {
			return fmt.Errorf("%d answers as before", now)
		}
		return nil
	})
}

// newMarble starts a Marble, which is admitted at the first try and talks, and takes it away again.
func (p *plane) newMarble() {
	p.Helper()
	const name = "newcomer"
	p.Apply("", strings.NewReplacer("marbletype: stranger", "marbletype: echo-client", "stranger", name).
		Replace(p.sample("stranger.yaml")))
	p.logHas(p.marbles, "app="+name, "answers \"hello")
	p.Kubectl("-n", p.marbles, "delete", "pod", name, "--grace-period=1")
}

// deletePod takes the Coordinator's Pod away without any notice.
func (p *plane) deletePod() {
	old := p.onlyPod(p.ns, ofCoordinator)
	p.Kubectl("-n", p.ns, "delete", "pod", "-l", ofCoordinator, "--grace-period=0", "--force")
	p.Eventually("there is another Pod", func(context.Context) error {
		for name := range p.pods(p.ns, ofCoordinator) {
			if name != old {
				return nil
			}
		}
		return errors.New("there is not")
	})
}

// killProcess ends the Coordinator with SIGKILL; the kubelet starts it again in the same Pod.
func (p *plane) killProcess() {
	p.NodeOnly()
	name := p.onlyPod(p.ns, ofCoordinator)
	pod := p.PodIs(p.ns, name, "runs", kit.Ready)
	if err := syscall.Kill(p.process(string(pod.UID)), syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
	p.PodIs(p.ns, name, "was started again", func(pod *corev1.Pod) error {
		if n := pod.Status.ContainerStatuses[0].RestartCount; n != 1 {
			return fmt.Errorf("%d restarts", n)
		}
		return nil
	})
}

// process finds the Coordinator of a Pod among the node's processes.
func (p *plane) process(uid string) int {
	p.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		p.Fatal(err)
	}
	for _, name := range names {
		group, _ := os.ReadFile(name) // processes come and go
		dir := filepath.Dir(name)
		argv, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		ofPod := strings.Contains(strings.ReplaceAll(string(group), "_", "-"), uid)
		if ofPod && strings.HasPrefix(string(argv), "/coordinator/coordinator\x00") {
			var pid int
			if _, err := fmt.Sscanf(dir, "/proc/%d", &pid); err != nil {
				p.Fatal(err)
			}
			return pid
		}
	}
	p.Fatalf("no Coordinator of Pod %s among %d processes", uid, len(names))
	return 0
}
