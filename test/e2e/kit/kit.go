// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package kit is what tests on a real cluster are written with: the programs that users have (kubectl, helm, marblerun),
// fresh namespaces that go away again, waiting with a reason, and a look at what went wrong when a test failed.
//
// The environment, made by test/e2e/run:
//
//	MARBLERUN_E2E=1       run; otherwise every test skips and says so
//	KUBECONFIG            the cluster: the project's own (test/cluster), or any other
//	MARBLERUN_DIST        what `go run ./release` wrote: images, charts
//	MARBLERUN_DIST_OLD    the same of an older version, to upgrade from
//	MARBLERUN_E2E_NODE=1  the tests run inside the only node of the project's own cluster, see [Kit.NodeOnly]
//	MARBLERUN_E2E_LONG=1  also run what takes minutes, see [Kit.Long]
//	MARBLERUN_E2E_FIGURES a file for what was measured, shown at the end, see [Kit.Figure]
//	PATH                  has kubectl, helm, marblerun, premain-libos
//
// Invariants:
//
//   - Nothing depends on the project's own cluster, except what asks for it with NodeOnly.
//   - What a test makes in the cluster is gone after it, whether it failed or not; the test waits only for objects that
//     another test could stumble over.
//   - Every wait ends, and then says for what it waited and why that did not come.
package kit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/marblerun/marblerun/test/harness"
)

// Kit is a test's hold on the cluster.
type Kit struct {
	testing.TB
	// Kube reads and watches where that is simpler than a program. Config is its configuration.
	Kube   *kubernetes.Clientset
	Config *rest.Config

	home  string // of helm's and marblerun's files
	shown *shown
}

// New returns the Kit of a test, and skips the test outside of `make e2e`.
func New(t testing.TB) *Kit {
	t.Helper()
	if os.Getenv("MARBLERUN_E2E") != "1" {
		t.Skip("SKIP: needs a cluster: run make e2e")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatalf("KUBECONFIG: %v", err)
	}
	config.QPS, config.Burst = 200, 400       // the client must not be what a test measures
	config.WarningHandler = rest.NoWarnings{} // kubectl shows them
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &Kit{TB: t, Kube: kube, Config: config, home: t.TempDir(), shown: &shown{}}
}

// With returns the same Kit for a subtest.
func (k *Kit) With(t testing.TB) *Kit {
	c := *k
	c.TB = t
	return &c
}

// NodeOnly skips a test that looks into the node's own files and processes, if it does not run there.
func (k *Kit) NodeOnly() {
	k.Helper()
	if os.Getenv("MARBLERUN_E2E_NODE") != "1" {
		k.Skip("SKIP: looks into the node of the project's own cluster, and this is another cluster")
	}
}

// Long skips a test that takes minutes, unless that is wanted.
func (k *Kit) Long() {
	k.Helper()
	if os.Getenv("MARBLERUN_E2E_LONG") != "1" {
		k.Skip("SKIP: takes minutes: set MARBLERUN_E2E_LONG=1")
	}
}

// Dist returns a path below the folder that `go run ./release` wrote.
func (k *Kit) Dist(parts ...string) string {
	k.Helper()
	dist := os.Getenv("MARBLERUN_DIST")
	if !filepath.IsAbs(dist) {
		k.Fatalf("MARBLERUN_DIST=%q: want the absolute path of what `go run ./release` wrote", dist)
	}
	return filepath.Join(append([]string{dist}, parts...)...)
}

var versionLine = regexp.MustCompile(`(?m)^VERSION \?= (\S+)$`)

// Version is the project's, without a v, as the Makefile says it.
func (k *Kit) Version() string {
	k.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(k), "Makefile"))
	if err != nil {
		k.Fatal(err)
	}
	found := versionLine.FindSubmatch(text)
	if found == nil {
		k.Fatal("the Makefile has no line VERSION ?=")
	}
	return string(found[1])
}

// Chart is the packaged chart of that name: marblerun or marblerun-coordinator.
func (k *Kit) Chart(name string) string {
	return k.Dist("charts", name+"-"+k.Version()+".tgz")
}

// Image is the full name of one of our images, e.g. coordinator or samples/echo-server.
func (k *Kit) Image(name string) string {
	return "ghcr.io/marblerun/marblerun/" + name + ":v" + k.Version()
}

// Figure tells what was measured, also when the test passes. Nothing is asserted about it.
func (k *Kit) Figure(format string, args ...any) {
	k.Helper()
	k.Logf(format, args...)
	name := os.Getenv("MARBLERUN_E2E_FIGURES")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		k.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "  %s: %s\n", k.Name(), fmt.Sprintf(format, args...))
	if err := errors.Join(err, f.Close()); err != nil {
		k.Fatal(err)
	}
}

// brief is a context for one call, also from a cleanup, when the test's own context has ended.
func (k *Kit) brief() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(k.Context()), time.Minute)
}
