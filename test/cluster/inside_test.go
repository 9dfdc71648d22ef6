// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestInside is run inside the node by TestCluster.
func TestInside(t *testing.T) {
	if os.Getenv(inside) != "1" {
		t.Skip("runs inside the node only: TestCluster starts it")
	}
	kubectl(t, "apply", "-f", "testdata/hello.yaml", "-f", "testdata/keeper.yaml", "-f", "testdata/enclave.yaml")
	kubectl(t, "rollout", "status", "deployment/hello", "--timeout=180s")
	t.Run("a Service by its name, from the node", func(t *testing.T) {
		wantHello(t, "http://hello.default.svc.cluster.local/")
	})
	t.Run("a Service by its name, from a Pod", func(t *testing.T) {
		wantHello(t, "http://hello.default.svc/fetch?url="+url.QueryEscape("http://hello/"))
	})
	t.Run("a Service by its address", func(t *testing.T) {
		wantHello(t, "http://"+kubectl(t, "get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")+"/")
	})
	t.Run("helm", func(t *testing.T) { output(t, "helm", "list", "--all-namespaces") })
	t.Run("port-forward", portForward)
	t.Run("logs", func(t *testing.T) {
		if log := kubectl(t, "logs", "deployment/hello"); !strings.Contains(log, "listening") {
			t.Errorf("got %q", log)
		}
	})
	t.Run("a volume outlives its Pod", volume)
	t.Run("an extended resource", extendedResource)
	t.Run("no way out", func(t *testing.T) {
		if out, err := get("http://192.0.2.1/"); err == nil {
			t.Errorf("an address outside answers %q", out)
		}
	})
}

func portForward(t *testing.T) {
	cmd := exec.Command("kubectl", "port-forward", "service/hello", "18080:80")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	wantHello(t, "http://127.0.0.1:18080/")
}

func volume(t *testing.T) {
	const data = "http://keeper.default.svc.cluster.local/data"
	kubectl(t, "rollout", "status", "deployment/keeper", "--timeout=180s")
	kubectl(t, "wait", "persistentvolumeclaim/keeper", "--for=jsonpath={.status.phase}=Bound", "--timeout=10s")
	waitFor(t, "the data to be stored", func() error {
		req, err := http.NewRequest(http.MethodPut, data, strings.NewReader("sealed state"))
		if err != nil {
			return err
		}
		_, err = do(req)
		return err
	})
	first := kubectl(t, "get", "pods", "-l", "app=keeper", "-o", "name")
	kubectl(t, "delete", first, "--grace-period=0", "--force")
	kubectl(t, "wait", first, "--for=delete", "--timeout=60s")
	kubectl(t, "rollout", "status", "deployment/keeper", "--timeout=180s")
	waitFor(t, "the data to be read", func() error {
		got, err := get(data)
		if err == nil && got != "sealed state" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
	if second := kubectl(t, "get", "pods", "-l", "app=keeper", "-o", "name"); second == first {
		t.Errorf("the Pod is still %s", second)
	}
}

func extendedResource(t *testing.T) {
	kubectl(t, "wait", "pod/enclave", "--for=condition=PodScheduled=False", "--timeout=30s")
	kubectl(t, "patch", "node", os.Getenv("MARBLERUN_CLUSTER_NODE"), "--subresource=status", "--type=merge", "-p",
		`{"status": {"capacity": {"sgx.intel.com/epc": "100Mi"}, "allocatable": {"sgx.intel.com/epc": "100Mi"}}}`)
	kubectl(t, "wait", "pod/enclave", "--for=condition=Ready", "--timeout=60s")
}

// wantHello asks until hello answers: a Service takes a moment until it leads to its Pods.
func wantHello(t *testing.T, address string) {
	t.Helper()
	waitFor(t, address, func() error {
		out, err := get(address)
		if err == nil && !strings.HasPrefix(out, "hello from hello-") {
			err = fmt.Errorf("got %q", out)
		}
		return err
	})
}

func get(address string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	return do(req)
}

func do(req *http.Request) (string, error) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, "kubectl", args...)
}

func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
