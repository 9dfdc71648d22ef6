// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package bench measures what a Coordinator process costs: server CPU per activation, beside the cost of the cryptography
// that the protocol requires, measured in the same run.
//
// Run it with `make bench`. Machines are noisy: rounds of all scenarios are interleaved, and medians are printed with
// their spread. It leaves out: the verification of evidence (see the benchmarks of attest), the network, and the client.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marblerun/marblerun/test/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv("MARBLERUN_FLOOR_ADDR") != "" {
		serveFloor()
		return
	}
	os.Exit(harness.Main(m))
}

// plan is how much is measured.
type plan struct {
	rounds, perRound int
	parallel         []int
	history          []int
}

func planned(t *testing.T) plan {
	switch os.Getenv("MARBLERUN_BENCH") {
	case "full":
		return plan{rounds: 7, perRound: 192, parallel: []int{1, 8, 64}, history: []int{0, 10_000, 100_000}}
	case "smoke":
		return plan{rounds: 1, perRound: 16, parallel: []int{1, 8}, history: []int{0, 1000}}
	}
	t.Skip("SKIP: benchmarks run with `make bench`")
	return plan{}
}

// manifest has a plain Marble, one with an activation limit, and 200 secrets that nobody names.
func manifest() []byte {
	var unrelated strings.Builder
	for i := range 200 {
		kind := `"Type":"symmetric-key","Size":256`
		if i%2 == 1 {
			kind = `"Type":"cert-ecdsa","Size":256`
		}
		fmt.Fprintf(&unrelated, `,"unrelated%d":{%s}`, i, kind)
	}
	return []byte(`{"Packages":{"p":{"UniqueID":"` + strings.Repeat("ab", 32) + `"}},
"Marbles":{
 "free":{"Package":"p","Parameters":{"Env":{"KEY":"{{ hex .Secrets.key }}"},"Files":{"/etc/x":"{{ pem .MarbleRun.RootCA.Cert }}"}}},
 "limited":{"Package":"p","MaxActivations":1000000000,"Parameters":{"Env":{"KEY":"{{ hex .Secrets.key }}"}}}},
"Secrets":{"key":{"Type":"symmetric-key","Size":128}` + unrelated.String() + `}}`)
}

// scenario is one line of the table.
type scenario struct {
	name     string
	process  process
	parallel int
	one      func(context.Context) error // one activation, or one handshake of the floor
	samples  []float64                   // CPU milliseconds per operation, one per round
	wall     []float64                   // milliseconds per operation
}

// process is what is measured.
type process struct{ pid int }

// cpu returns the user and system time that the process has used.
func (p process) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100
}

// resident returns the resident memory in MiB.
func (p process) resident() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseFloat(strings.Fields(string(data))[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

func TestActivationCost(t *testing.T) {
	p := planned(t)
	floor := startFloor(t)
	var all []*scenario
	for _, n := range p.parallel {
		all = append(all, &scenario{name: "floor: required cryptography", process: floor.process, parallel: n, one: floor.handshake})
	}
	for _, history := range p.history {
		c := prefilled(t, history)
		id := harness.NewIdentity(t, "marble")
		for _, marbleType := range []string{"free", "limited"} {
			for _, n := range p.parallel {
				all = append(all, &scenario{
					name: fmt.Sprintf("%s, %d earlier", marbleType, history), process: process{c.Pid()}, parallel: n,
					one: func(ctx context.Context) error {
						_, err := c.Activate(ctx, id, marbleType, "0f0e0d0c-0b0a-4908-8706-050403020100")
						return err
					},
				})
			}
		}
		pid := process{c.Pid()}
		before := pid.resident()
		defer func() {
			t.Logf("memory with %d earlier activations: %.0f MiB at start, %.0f MiB after the run", history, before, pid.resident())
		}()
	}
	for range p.rounds {
		for _, s := range all {
			s.round(t, p.perRound)
		}
	}
	report(t, all)
}

// round runs the scenario's operation n times and takes one sample.
func (s *scenario) round(t *testing.T, n int) {
	before, started := s.process.cpu(), time.Now()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range s.parallel {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := s.one(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.samples = append(s.samples, float64(s.process.cpu()-before)/1e6/float64(n))
	s.wall = append(s.wall, float64(time.Since(started))/1e6/float64(n))
}

func report(t *testing.T, all []*scenario) {
	floors := map[int]float64{}
	for _, s := range all {
		if strings.HasPrefix(s.name, "floor") {
			floors[s.parallel] = median(s.samples)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "server CPU per activation, fresh TLS connection each; median [min … max] of %d rounds\n\n", len(all[0].samples))
	fmt.Fprintf(&b, "%-30s %8s %22s %8s %10s\n", "scenario", "parallel", "CPU ms", "× floor", "per second")
	for _, s := range all {
		m := median(s.samples)
		fmt.Fprintf(&b, "%-30s %8d %6.2f [%5.2f … %5.2f] %8.2f %10.0f\n", s.name, s.parallel, m,
			slices.Min(s.samples), slices.Max(s.samples), m/floors[s.parallel], 1000/median(s.wall))
	}
	b.WriteString("\nThe floor is the TLS 1.3 server side with a P-384 client certificate, CSR verification, P-384 key generation and a\n" +
		"leaf signature. Left out: verification of evidence, the network. MarbleRun 1.9: 8 to 9.5 ms on such a machine.\n")
	t.Log("\n" + b.String())
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.SortFunc(s, cmp.Compare[float64])
	return s[len(s)/2]
}

// prefilled starts a Coordinator whose history has n activations, written through the kernel.
func prefilled(t *testing.T, n int) *harness.Coordinator {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if n > 0 {
		file := filepath.Join(t.TempDir(), "manifest.json")
		if err := os.WriteFile(file, manifest(), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "test", "-count=1", "-run", "^TestPrefill$", "./internal/coordinator")
		cmd.Dir = harness.Root(t)
		cmd.Env = append(os.Environ(), "MARBLERUN_PREFILL_DIR="+dir, fmt.Sprintf("MARBLERUN_PREFILL=%d", n),
			"MARBLERUN_PREFILL_MANIFEST="+file)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("prefill: %v\n%s", err, out)
		}
	}
	c := harness.Start(t, harness.Options{Dir: dir})
	if n == 0 {
		c.MustSetManifest(manifest())
	}
	return c
}
