// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/marble"
)

func TestUUIDFile(t *testing.T) {
	s := server(t)
	for _, test := range []struct {
		name, content, want string
	}{
		{"canonical", someUUID, someUUID},
		{"newline", someUUID + "\n", someUUID},
		{"upper case", strings.ToUpper(someUUID), someUUID},
		{"URN", "urn:uuid:" + someUUID, someUUID},
		{"braces", "{" + someUUID + "}", someUUID},
		{"digits", strings.ReplaceAll(someUUID, "-", ""), someUUID},
		{"version 1", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{"empty", "", ""},
		{"garbage", "hunter2", ""},
		{"digits in braces", "{" + strings.ReplaceAll(someUUID, "-", "") + "}", ""},
		{"misplaced hyphens", "0f0e0d0c0-b0a-4908-8706-050403020100", ""},
		{"no hex", "0f0e0d0c-0b0a-4908-8706-05040302010g", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := config(t, s)
			if err := os.WriteFile(config.UUIDFile, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			params, err := marble.Activate(t.Context(), config)
			switch {
			case test.want == "" && (err == nil || !strings.Contains(marble.Hint(err), "restore the file")):
				t.Errorf("got %v", err)
			case test.want != "" && (err != nil || params.UUID != test.want):
				t.Errorf("got %v", err)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error repeats the file: %v", err)
			}
			if left, _ := os.ReadFile(config.UUIDFile); string(left) != test.content {
				t.Errorf("the file became %q", left)
			}
		})
	}
}

func TestUUIDCreated(t *testing.T) {
	s := server(t)
	config := config(t, s)
	if _, err := marble.Activate(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(config.UUIDFile)
	random := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if err != nil || !random.Match(data) {
		t.Errorf("wrote %q, %v", data, err)
	}
	if info, err := os.Stat(config.UUIDFile); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	config.UUIDFile = filepath.Join(t.TempDir(), "missing", "uuid")
	_, err = marble.Activate(t.Context(), config)
	if !strings.Contains(marble.Hint(err), "folder must exist") {
		t.Errorf("got %v", err)
	}
}

func TestConfigFromEnv(t *testing.T) {
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	_, err := marble.ConfigFromEnv(getenv)
	if err == nil || err.Error() != "environment variable not set: EDG_MARBLE_TYPE" {
		t.Errorf("got %v", err)
	}
	env["EDG_MARBLE_TYPE"] = "web"
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	check := func(want marble.Config) {
		t.Helper()
		got, err := marble.ConfigFromEnv(getenv)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	check(marble.Config{CoordinatorAddr: "localhost:2001", MarbleType: "web", DNSNames: []string{"localhost"},
		UUIDFile: filepath.Join(dir, "uuid"), Timeout: time.Minute})
	env["EDG_CWD"] = "/work/dir"
	env["EDG_MARBLE_COORDINATOR_ADDR"] = "coordinator:9"
	env["EDG_MARBLE_DNS_NAMES"] = "a, b,10.0.0.1"
	env["EDG_MARBLE_ACTIVATION_TIMEOUT"] = "5m"
	check(marble.Config{CoordinatorAddr: "coordinator:9", MarbleType: "web", DNSNames: []string{"a", " b", "10.0.0.1"},
		UUIDFile: "/work/dir/uuid", Timeout: 5 * time.Minute})
	env["EDG_MARBLE_UUID_FILE"] = "/id"
	check(marble.Config{CoordinatorAddr: "coordinator:9", MarbleType: "web", DNSNames: []string{"a", " b", "10.0.0.1"},
		UUIDFile: "/id", Timeout: 5 * time.Minute})
	env["EDG_MARBLE_ACTIVATION_TIMEOUT"] = "-1s"
	if _, err := marble.ConfigFromEnv(getenv); err == nil {
		t.Error("a negative timeout was taken")
	}
}
