// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/marblerun/marblerun/internal/kube/inject/patchtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// quiet counts reviews for tests that do not look at metrics.
type quiet struct{ outcomes chan Outcome }

func (q quiet) Reviewed(o Outcome, _ int, _ time.Duration) {
	if q.outcomes != nil {
		q.outcomes <- o
	}
}

func newHandler(t testing.TB, cfg Config) *Handler {
	t.Helper()
	if cfg.CoordinatorAddr == "" {
		cfg.CoordinatorAddr = "coordinator-mesh-api.marblerun:2001"
	}
	if cfg.ClusterDomain == "" {
		cfg.ClusterDomain = "cluster.local"
	}
	if cfg.Resource == "" {
		cfg.Resource = IntelEPC
	}
	injector, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return NewHandler(injector, slog.New(slog.DiscardHandler), quiet{}, time.Now)
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/mutate?timeout=10s", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// answer is an answered review.
type answer struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Response   struct {
		UID              string            `json:"uid"`
		Allowed          bool              `json:"allowed"`
		Status           map[string]string `json:"status"`
		PatchType        string            `json:"patchType"`
		Patch            []byte            `json:"patch"`
		Warnings         []string          `json:"warnings"`
		AuditAnnotations map[string]string `json:"auditAnnotations"`
	} `json:"response"`
}

// ask sends a review and returns the answer and the patched object.
func ask(t testing.TB, h http.Handler, version string, request map[string]any) (answer, []byte) {
	t.Helper()
	w := post(h, encode(t, map[string]any{"apiVersion": version, "kind": "AdmissionReview", "request": request}))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("HTTP %d %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var a answer
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields() // the API server warns about fields that it does not know
	if err := d.Decode(&a); err != nil {
		t.Fatal(err)
	}
	object := encode(t, request["object"])
	if (a.Response.Patch == nil) != (a.Response.PatchType == "") {
		t.Errorf("patch type %q with a patch of %d bytes", a.Response.PatchType, len(a.Response.Patch))
	}
	if a.Response.Patch == nil {
		return a, object
	}
	patched, err := patchtest.Apply(object, a.Response.Patch)
	if err != nil {
		t.Fatalf("the patch does not apply: %v\n%s", err, a.Response.Patch)
	}
	return a, patched
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each file is one row of the contract or one pain: a comment, the request and, if not the defaults, flags; then the
// answer, its patch decoded, and the Pod that results.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string][]byte{}
	for _, f := range archive.Files {
		sections[f.Name] = f.Data
	}
	var flags struct {
		Config
		Version string
	}
	var request map[string]any
	if err := yaml.UnmarshalStrict(sections["flags"], &flags); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(sections["request.yaml"], &request); err != nil {
		t.Fatal(err)
	}
	if flags.Version == "" {
		flags.Version = "admission.k8s.io/v1"
	}
	h := newHandler(t, flags.Config)
	a, patched := ask(t, h, flags.Version, request)
	got := map[string][]byte{"answer.yaml": readable(t, a), "pod.yaml": toYAML(t, patched)}

	if *update {
		writeGolden(t, file, archive, got)
		return
	}
	for name, text := range got {
		if diff := cmp.Diff(string(sections[name]), string(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	again := map[string]any{}
	for k, v := range request {
		again[k] = v
	}
	again["uid"], again["object"] = "another-uid", json.RawMessage(patched)
	if second, _ := ask(t, h, flags.Version, again); second.Response.Patch != nil {
		t.Errorf("a second invocation changes the Pod again: %s", second.Response.Patch)
	}
}

func writeGolden(t *testing.T, file string, archive *txtar.Archive, got map[string][]byte) {
	var files []txtar.File
	for _, f := range archive.Files {
		if got[f.Name] == nil {
			files = append(files, f)
		}
	}
	files = append(files, txtar.File{Name: "answer.yaml", Data: got["answer.yaml"]},
		txtar.File{Name: "pod.yaml", Data: got["pod.yaml"]})
	if err := os.WriteFile(file, txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: files}), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readable renders the answer with its patch as one operation a line, in the order of the answer.
func readable(t *testing.T, a answer) []byte {
	patch := a.Response.Patch
	a.Response.Patch = nil
	out := toYAML(t, encode(t, a))
	out = bytes.ReplaceAll(out, []byte("  patch: null\n"), nil)
	if patch == nil {
		return out
	}
	var ops []json.RawMessage
	if err := json.Unmarshal(patch, &ops); err != nil {
		t.Fatal(err)
	}
	out = append(out, "patch:\n"...)
	for _, op := range ops {
		out = append(append(append(out, "- "...), op...), '\n')
	}
	return out
}

func toYAML(t *testing.T, data []byte) []byte {
	out, err := yaml.JSONToYAML(data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
