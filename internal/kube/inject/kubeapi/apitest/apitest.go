// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package apitest is a small Kubernetes API server for tests: it keeps objects and their resource versions, and treats
// reads, creations and patches as the real one does, optimistic concurrency and refusals included.
package apitest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/marblerun/marblerun/internal/kube/inject/patchtest"
)

// Token is what clients must bear.
const Token = "a-token"

// WebhookPath is where webhook configurations are.
const WebhookPath = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

// SecretPath is where the Secrets of a namespace are.
func SecretPath(namespace string) string { return "/api/v1/namespaces/" + namespace + "/secrets" }

type object = map[string]any

// Server is an http.Handler, and a RoundTripper that needs no network.
type Server struct {
	// Forbid says what the client lacks permission for; nil for nothing. Before runs before each request is looked at,
	// without locks, so that a test can come in between. Set them before use.
	Forbid func(method, path string) bool
	Before func(method, path string)

	mu       sync.Mutex
	objects  map[string]object // by path
	version  int
	writes   int
	requests []string
}

// New returns a server with nothing in it.
func New() *Server { return &Server{objects: map[string]object{}} }

// RoundTrip answers without a network.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result(), nil
}

// Put stores an object, over whatever is there.
func (s *Server) Put(path string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(path, copyOf(o))
}

// PutWebhooks stores a webhook configuration whose webhooks call the services, each namespace/name.
func (s *Server) PutWebhooks(name string, services ...string) {
	var list []any
	for i, service := range services {
		namespace, short, _ := strings.Cut(service, "/")
		list = append(list, object{"name": fmt.Sprintf("hook-%d.cluster.local", i),
			"clientConfig": object{"service": object{"namespace": namespace, "name": short, "path": "/mutate"}}})
	}
	s.Put(WebhookPath+"/"+name, object{"metadata": object{"name": name}, "webhooks": list})
}

// Delete removes an object.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, path)
}

// SecretData returns the decoded data of a Secret, nil if there is none.
func (s *Server) SecretData(namespace, name string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[SecretPath(namespace)+"/"+name]
	if !ok {
		return nil
	}
	data := map[string][]byte{}
	members, _ := o["data"].(object)
	for key, value := range members {
		data[key], _ = base64.StdEncoding.DecodeString(value.(string))
	}
	return data
}

// CABundle returns that of the i-th webhook of a configuration, "" if it has none.
func (s *Server) CABundle(name string, i int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	hook := s.objects[WebhookPath+"/"+name]["webhooks"].([]any)[i].(object)
	text, _ := hook["clientConfig"].(object)["caBundle"].(string)
	bundle, _ := base64.StdEncoding.DecodeString(text)
	return bundle
}

// Writes is how many changes were accepted from clients.
func (s *Server) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// Requests are the methods and paths of all requests.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.requests...)
}

// ServeHTTP answers as the API server would.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if s.Before != nil {
		s.Before(r.Method, r.URL.Path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
	case r.Header.Get("Authorization") != "Bearer "+Token:
		refuse(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
	case s.Forbid != nil && s.Forbid(r.Method, r.URL.Path):
		refuse(w, http.StatusForbidden, "Forbidden", "the service account cannot "+r.Method+" "+r.URL.Path)
	case r.Method == http.MethodPost:
		s.create(w, r, body)
	case s.objects[r.URL.Path] == nil:
		refuse(w, http.StatusNotFound, "NotFound", path.Base(r.URL.Path)+" not found")
	case r.Method == http.MethodGet:
		reply(w, http.StatusOK, s.objects[r.URL.Path])
	case r.Method == http.MethodPatch:
		s.patch(w, r, body)
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
	}
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, body []byte) {
	var o object
	if err := json.Unmarshal(body, &o); err != nil || r.Header.Get("Content-Type") != "application/json" {
		refuse(w, http.StatusBadRequest, "BadRequest", "no object")
		return
	}
	metadata, _ := o["metadata"].(object)
	name, _ := metadata["name"].(string)
	at := r.URL.Path + "/" + name
	switch {
	case name == "":
		refuse(w, http.StatusUnprocessableEntity, "Invalid", "name is required")
	case s.objects[at] != nil:
		refuse(w, http.StatusConflict, "AlreadyExists", name+" already exists")
	default:
		s.accept(w, http.StatusCreated, at, o)
	}
}

func (s *Server) patch(w http.ResponseWriter, r *http.Request, body []byte) {
	old := s.objects[r.URL.Path]
	var changed object
	switch kind := r.Header.Get("Content-Type"); kind {
	case "application/merge-patch+json":
		var patch object
		if err := json.Unmarshal(body, &patch); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		changed = merge(copyOf(old), patch).(object)
	case "application/json-patch+json":
		before, _ := json.Marshal(old)
		after, err := patchtest.Apply(before, body)
		if err != nil || json.Unmarshal(after, &changed) != nil {
			refuse(w, http.StatusUnprocessableEntity, "", fmt.Sprint("the server rejected our request: ", err))
			return
		}
	default:
		refuse(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", kind)
		return
	}
	// A patch that leaves the version alone is unconditional.
	if versionOf(changed) != versionOf(old) {
		refuse(w, http.StatusConflict, "Conflict",
			"the object has been modified; please apply your changes to the latest version and try again")
		return
	}
	s.accept(w, http.StatusOK, r.URL.Path, changed)
}

func (s *Server) accept(w http.ResponseWriter, code int, at string, o object) {
	if problem := invalid(o); problem != "" {
		refuse(w, http.StatusUnprocessableEntity, "Invalid", problem)
		return
	}
	s.writes++
	s.store(at, o)
	reply(w, code, o)
}

func (s *Server) store(at string, o object) {
	s.version++
	metadata, _ := o["metadata"].(object)
	if metadata == nil {
		metadata = object{}
		o["metadata"] = metadata
	}
	metadata["resourceVersion"] = strconv.Itoa(s.version)
	s.objects[at] = o
}
