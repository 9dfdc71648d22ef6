// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func selecting(labels string) metav1.ListOptions { return metav1.ListOptions{LabelSelector: labels} }

// maxGrowth of the injector's memory over 500 Pods, in KiB: far more than what garbage collection leaves lying around,
// and less than 500 Pods with their reviews.
const maxGrowth = 24 << 10

// testManyPods: 500 Pods are created through the webhook; none is refused, and the injector remembers none.
func testManyPods(in *installation) {
	defer in.deleteIdle()
	in.createMany(100) // what is allocated once is allocated now
	before, memoryBefore := in.durations(), in.memory()
	started := time.Now()
	in.createMany(500)
	took := time.Since(started)
	after, memoryAfter := in.durations(), in.memory()

	reviewed := after.minus(before)
	if reviewed.count < 500 {
		in.Errorf("the metrics know of %d reviews", reviewed.count)
	}
	in.Figure("500 Pods in %.1f s; handler: p50 ≤ %v, p99 ≤ %v, mean %v", took.Seconds(), reviewed.quantile(0.5),
		reviewed.quantile(0.99), reviewed.mean().Round(time.Microsecond))
	for name, now := range memoryAfter {
		was := memoryBefore[name]
		in.Figure("resident memory of %s: %.1f MiB, then %.1f MiB", name, float64(was)/1024, float64(now)/1024)
		if now-was > maxGrowth {
			in.Errorf("%s has grown from %d KiB to %d KiB", name, was, now)
		}
	}
	if err := in.neverRestarted(); err != nil {
		in.Error(err)
	}
}

// createMany creates n Pods, eight at a time, and waits for none of them.
func (in *installation) createMany(n int) {
	in.Helper()
	work := make(chan struct{})
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for range work {
				pod, err := in.create(in.Context(), idle("many-"), false)
				if err := errors.Join(err, injected(pod)); err != nil {
					in.Error(err)
				}
			}
		})
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	workers.Wait()
}

func (in *installation) deleteIdle() {
	in.Helper()
	now := int64(0)
	err := in.Kube.CoreV1().Pods(in.pods).DeleteCollection(in.Context(), metav1.DeleteOptions{GracePeriodSeconds: &now},
		selecting("marblerun/marbletype=web"))
	if err != nil {
		in.Error(err)
	}
}

// histogram is what is read of marble_injector_review_duration_seconds, over all replicas.
type histogram struct {
	le    map[float64]uint64 // cumulative, by upper bound in seconds
	sum   float64
	count uint64
}

func (in *installation) durations() histogram {
	in.Helper()
	h := histogram{le: map[float64]uint64{}}
	for _, pod := range in.replicas() {
		answer, err := http.Get("http://" + in.Forward(in.ns, "pod/"+pod.Name, 9945) + "/metrics")
		if err != nil {
			in.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close(), h.add(text)); err != nil {
			in.Fatal(err)
		}
	}
	return h
}

func (h *histogram) add(text []byte) error {
	const name = "marble_injector_review_duration_seconds"
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line, value, _ := strings.Cut(s.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		switch bound, isBucket := strings.CutPrefix(line, name+`_bucket{le="`); {
		case isBucket:
			var le float64
			le, err2 := strconv.ParseFloat(strings.TrimSuffix(bound, `"}`), 64)
			h.le[le] += uint64(number)
			err = errors.Join(err, err2)
		case line == name+"_sum":
			h.sum += number
		case line == name+"_count":
			h.count += uint64(number)
		default:
			err = nil // another metric
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Text(), err)
		}
	}
	if len(h.le) == 0 {
		return errors.New("there is no metric " + name)
	}
	return nil
}

func (h histogram) minus(earlier histogram) histogram {
	d := histogram{le: map[float64]uint64{}, sum: h.sum - earlier.sum, count: h.count - earlier.count}
	for le, n := range h.le {
		d.le[le] = n - earlier.le[le]
	}
	return d
}

// quantile is the bound of the bucket that the quantile falls into.
func (h histogram) quantile(q float64) time.Duration {
	least := math.Inf(1)
	for le, n := range h.le {
		if float64(n) >= q*float64(h.count) {
			least = min(least, le)
		}
	}
	return time.Duration(least * float64(time.Second))
}

func (h histogram) mean() time.Duration {
	return time.Duration(h.sum / float64(max(h.count, 1)) * float64(time.Second))
}

// memory is the resident memory of each replica's process, in KiB; nil outside of the node.
func (in *installation) memory() map[string]int {
	in.Helper()
	if os.Getenv("MARBLERUN_E2E_NODE") != "1" {
		return nil
	}
	all := map[string]int{}
	for _, pod := range in.replicas() {
		pid, err := processOf(pod.UID)
		if err != nil {
			in.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			in.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		var kib int
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			in.Fatal(err)
		}
		all[pod.Name] = kib
	}
	return all
}

// processOf finds the injector's process in the Pod's control group.
func processOf(pod types.UID) (pid int, err error) {
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, file := range groups {
		folder := filepath.Dir(file)
		group, _ := os.ReadFile(file) // processes come and go
		program, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		if bytes.Contains(group, []byte("pod"+pod)) && bytes.HasPrefix(program, []byte("/marble-injector\x00")) {
			return strconv.Atoi(filepath.Base(folder))
		}
	}
	return 0, fmt.Errorf("the process of Pod %s is not on this node", pod)
}
