// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// TestKit sees that the kit itself works with this cluster: programs, namespaces, waiting, resources, refusals.
func TestKit(t *testing.T) {
	k := kit.New(t)
	ns := k.Namespace("kit", "purpose", "test")
	if got := k.Kubectl("get", "namespace", ns, "-o", "jsonpath={.metadata.labels.purpose}"); got != "test" {
		t.Errorf("label %q", got)
	}
	if out := k.ApplyFails(ns, "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n"); out.Code != 1 ||
		!strings.Contains(out.Stderr, "Nonsense") {
		t.Errorf("%+v", out)
	}
	k.FakeResources(map[string]string{"example.com/kit": "5"})
	k.Apply(ns, `
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  containers:
  - {name: c, image: nowhere.example/none, resources: {limits: {example.com/kit: 6}}}
`)
	pod := k.PodIs(ns, "greedy", "is refused by the scheduler", kit.Unschedulable)
	if state := kit.State(pod); !strings.Contains(state, "Insufficient example.com/kit") {
		t.Error(state)
	}
}

func TestPrograms(t *testing.T) {
	k := kit.New(t)
	for _, args := range [][]string{{"kubectl", "version", "--client"}, {"helm", "version"}} {
		if out := k.Run(args...); out.Stdout == "" {
			t.Errorf("%q prints nothing", args)
		}
	}
	tries := 0
	k.Eventually("the third time comes", func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	out, err := k.Try(kit.Command{Args: []string{"sh", "-c", "cat; echo err >&2; exit 3"}, Stdin: "in"})
	if out.Stdout != "in" || out.Stderr != "err\n" || out.Code != 3 || err == nil {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestRepository(t *testing.T) {
	k := kit.New(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.yaml"), []byte("apiVersion: v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get(k.Repository(dir) + "/index.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "apiVersion: v1\n" {
		t.Errorf("%q %v", text, err)
	}
}
