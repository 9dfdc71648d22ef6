// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"strings"
	"testing"
)

func TestConfigurationProblemsAreAllNamed(t *testing.T) {
	_, err := New(Config{CoordinatorAddr: "nowhere", ClusterDomain: "cluster..local", Resource: "epc", Quantity: "0"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`Coordinator address "nowhere"`, `cluster domain "cluster..local"`, `SGX resource "epc"`,
		`SGX quantity: "0"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestConfigurations(t *testing.T) {
	good := Config{CoordinatorAddr: "coordinator:2001", ClusterDomain: "cluster.local", Resource: IntelEPC}
	for _, c := range []struct {
		name string
		with func(*Config)
		ok   bool
	}{
		{"defaults", func(*Config) {}, true},
		{"IPv6 Coordinator", func(c *Config) { c.CoordinatorAddr = "[fd00::1]:2001" }, true},
		{"Coordinator without host", func(c *Config) { c.CoordinatorAddr = ":2001" }, false},
		{"Coordinator with port 0", func(c *Config) { c.CoordinatorAddr = "a:0" }, false},
		{"Coordinator with a large port", func(c *Config) { c.CoordinatorAddr = "a:65536" }, false},
		{"Coordinator with a named port", func(c *Config) { c.CoordinatorAddr = "a:grpc" }, false},
		{"domain of one label", func(c *Config) { c.ClusterDomain = "local" }, true},
		{"domain in capitals", func(c *Config) { c.ClusterDomain = "K8s.Example" }, true},
		{"no domain", func(c *Config) { c.ClusterDomain = "" }, false},
		{"domain with a dot at its end", func(c *Config) { c.ClusterDomain = "cluster.local." }, false},
		{"resource with two slashes", func(c *Config) { c.Resource = "a/b/c" }, false},
		{"resource without a name", func(c *Config) { c.Resource = "example.com/" }, false},
		{"resource without a domain", func(c *Config) { c.Resource = "/epc" }, false},
		{"own resource", func(c *Config) { c.Resource, c.Quantity = "example.com/sgx_EPC", "1Gi" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.with(&cfg)
			if _, err := New(cfg); (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "10": 10, "10Mi": 10 << 20, "1Gi": 1 << 30, "0.5Gi": 512 << 20, "1.5k": 1500, "2Ki": 2048,
		"1M": 1e6, "3Ti": 3 << 40,
		"4P": 4e15, "7Ei": 7 << 60, "9223372036854775807": 1<<63 - 1,
		// refused
		"": 0, "0": 0, "-1": 0, "+1": 0, "1m": 0, "0.5": 0, "1K": 0, "1ki": 0, "1mi": 0, "1i": 0, "1MiMi": 0,
		"Mi": 0, "1 Mi": 0,
		"1e3": 0, "1E3": 0, "8Ei": 0, "9223372036854775808": 0, "0x10": 0, "1_000": 0, "1/2": 0, ".": 0,
		"1.2.3": 0, "1Mi\n": 0,
		"99999999999999999999999": 0, "NaN": 0, "1i0": 0,
	} {
		got, err := parseQuantity(text)
		if got.amount != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, error %v, want %d", text, got.amount, err, want)
		}
		if err == nil && got.text != text {
			t.Errorf("%q is kept as %q", text, got.text)
		}
	}
}

func FuzzQuantity(f *testing.F) {
	for _, seed := range []string{"10Mi", "0.5Gi", "1e9", "", "99999999999999999999Ei"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseQuantity(text)
		if err == nil && q.amount <= 0 {
			t.Errorf("%q is %d", text, q.amount)
		}
		if n, bad := inMiB(q); err == nil && bad == nil && n == "0" {
			t.Errorf("%q is 0 MiB", text)
		}
	})
}

func TestStableUUIDsDiffer(t *testing.T) {
	a := stableUUID("ns", "web-0", "web")
	// The vector that other programs can check: SHA-256("marblerun stable uuid v1/ns/web-0/web"), version 8, variant 10.
	if want := "8de49f3c-198e-8d13-a7a8-cb9d709fd3f9"; a != want {
		t.Errorf("%s, want %s", a, want)
	}
	if !uuidText.MatchString(a) || a[14] != '8' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Errorf("%s is no UUID of version 8", a)
	}
	others := []string{stableUUID("ns2", "web-0", "web"), stableUUID("ns", "web-1", "web"), stableUUID("ns", "web-0", "x")}
	for _, b := range others {
		if a == b {
			t.Error("two Marbles with one UUID")
		}
	}
}

func TestNoResource(t *testing.T) {
	h := newHandler(t, Config{Resource: NoResource})
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "web-0", "labels": map[string]any{LabelType: "web"},
			"annotations": map[string]any{AnnotationEPC: "32Mi"}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "web"}}}}
	_, patched := ask(t, h, "admission.k8s.io/v1", map[string]any{"uid": "u", "namespace": "ns", "operation": "CREATE", "object": pod})
	for text, want := range map[string]bool{"EDG_MARBLE_TYPE": true, "sgx": false, "tolerations": false, "resources": false} {
		if got := strings.Contains(strings.ReplaceAll(string(patched), AnnotationEPC, ""), text); got != want {
			t.Errorf("%q in the Pod: %t, want %t\n%s", text, got, want, patched)
		}
	}
}
