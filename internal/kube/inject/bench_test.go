// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// reviews are n different reviews of the size that an API server sends: a Pod of two containers and what it adds to
// them.
func reviews(t testing.TB, n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		managed := []fields{}
		for j := range 3 {
			managed = append(managed, fields{"manager": fmt.Sprint("kube-controller-manager-", j), "operation": "Update",
				"fieldsV1": fields{"f:metadata": fields{"f:labels": fields{strings.Repeat("f:x", 100): fields{}}}}})
		}
		container := func(name string) fields {
			return fields{"name": name, "image": "registry.example/web:1", "resources": fields{}, "imagePullPolicy": "Always",
				"env":          []fields{{"name": "A", "value": "b"}, {"name": "S", "valueFrom": fields{"fieldRef": fields{}}}},
				"volumeMounts": []fields{{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}}}
		}
		list[i] = encode(t, fields{"apiVersion": reviewV1, "kind": "AdmissionReview", "request": fields{
			"uid": fmt.Sprintf("705ab4f5-6393-11e8-b7cc-%012d", i), "namespace": "default", "operation": "CREATE",
			"kind": fields{"group": "", "version": "v1", "kind": "Pod"},
			"object": fields{"apiVersion": "v1", "kind": "Pod", "status": fields{}, "metadata": fields{
				"generateName": "web-5d9f-", "labels": fields{LabelType: "web", "app": "web"}, "managedFields": managed,
			}, "spec": fields{"containers": []fields{container("web"), container("proxy")}, "nodeSelector": fields{"a": "b"},
				"volumes": []fields{{"name": "token", "projected": fields{"sources": []fields{}}}}}},
		}})
	}
	return list
}

// durations is an Observer that keeps how long reviews took.
type durations struct {
	mu   sync.Mutex
	took []time.Duration
}

func (d *durations) Reviewed(_ Outcome, _ int, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, took)
}

// BenchmarkReviews sends 500 reviews over TLS and HTTP/2, eight at a time, and reports latencies as the handler has
// them, and as the API server sees them (seen), which includes client, TLS and waiting for a processor.
func BenchmarkReviews(b *testing.B) {
	own := &durations{}
	injector := newHandler(b, Config{}).injector
	server := httptest.NewUnstartedServer(NewHandler(injector, slog.New(slog.DiscardHandler), own, time.Now))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	all := reviews(b, 500)
	b.SetBytes(int64(len(all[0]) * len(all)))
	var seen []time.Duration
	for b.Loop() {
		seen = append(seen, sendAll(b, server, all)...)
	}
	report := func(took []time.Duration, name string) {
		slices.Sort(took)
		at := func(part float64) float64 { return took[int(part*float64(len(took)-1))].Seconds() * 1e3 }
		b.ReportMetric(at(0.5), name+"p50-ms")
		b.ReportMetric(at(0.99), name+"p99-ms")
		b.ReportMetric(at(1), name+"max-ms")
	}
	report(own.took, "")
	report(seen, "seen-")
}

func sendAll(b *testing.B, server *httptest.Server, all [][]byte) []time.Duration {
	took := make([]time.Duration, len(all))
	next := make(chan int, len(all))
	for i := range all {
		next <- i
	}
	close(next)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := range next {
				start := time.Now()
				answer, err := server.Client().Post(server.URL+"/mutate", "application/json", bytes.NewReader(all[i]))
				if err != nil {
					b.Error(err)
					return
				}
				reply, err := io.ReadAll(answer.Body)
				if err = closed(answer, err); err != nil || !bytes.Contains(reply, []byte(`"patch":`)) {
					b.Errorf("%d %s %v", answer.StatusCode, reply, err)
				}
				took[i] = time.Since(start)
			}
		})
	}
	clients.Wait()
	return took
}

func closed(answer *http.Response, err error) error {
	if closing := answer.Body.Close(); err == nil {
		err = closing
	}
	return err
}

// Memory does not depend on how many Pods were reviewed.
func TestMemoryIsFlat(t *testing.T) {
	injector := newHandler(t, Config{}).injector
	h := NewHandler(injector, slog.New(slog.DiscardHandler), quiet{}, time.Now)
	all := reviews(t, 500)
	heap := func() uint64 {
		for _, body := range all {
			if w := post(h, body); w.Code != 200 || !json.Valid(w.Body.Bytes()) {
				t.Fatal(w.Code, w.Body)
			}
		}
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	first, last := heap(), uint64(0)
	for range 4 {
		last = heap()
	}
	// A leak of 100 bytes a review would be 200 kB.
	if last > first+100_000 {
		t.Errorf("the heap grew from %d to %d bytes with 2,000 reviews", first, last)
	}
}
