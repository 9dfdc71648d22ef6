// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package peers

import (
	"cmp"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

// contender is one line of the table: something that is run many times.
type contender struct {
	kind, name string
	run        func() error
	bare       *contender // the bare signature verifications that it needs; nil for those themselves
	cold       *contender // of a peer: our verification without a cache
	refuses    string     // why a peer cannot take part
	ops        int        // a sample
	samples    []float64  // CPU µs per operation, one a round
}

// plan is how much is measured: rounds, and the CPU time of a sample.
func plan(t *testing.T) (rounds int, sample time.Duration) {
	switch os.Getenv("MARBLERUN_BENCH") {
	case "full":
		return 31, 15 * time.Millisecond
	case "smoke":
		return 1, time.Millisecond
	}
	t.Skip("SKIP: benchmarks run with `make bench`")
	return 0, 0
}

// TestVerificationCost prints what verifications cost beside the signature verifications they need, and the peers.
func TestVerificationCost(t *testing.T) {
	rounds, sample := plan(t)
	all := slices.Concat(quoteContenders(t), reportContenders(t))
	for _, c := range all {
		c.calibrate(t, sample)
	}
	for round := range rounds {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			all[i].measure(t)
		}
	}
	t.Log("\n" + table(all, rounds))
}

func quoteContenders(t *testing.T) []*contender {
	dir := vectors(t)
	real := func(name string) quoteCase { return loadQuote(t, filepath.Join(dir, "dcap", name)) }
	platform, err := softtee.New(softtee.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all []*contender
	for _, k := range []struct {
		kind string
		c    quoteCase
	}{
		{"SGX v3", real("sgx-v3-00606A000000-c81a90ee-eval19-20250606")},
		{"SGX v4, simulated", simulated(t, platform, softtee.SGXv4)},
		{"SGX v5, simulated", simulated(t, platform, softtee.SGXv5)},
		{"TDX v4", real("tdx-v4-00806F050000-00b2526a-eval17-20250707")},
		{"TDX v5", real("tdx-v5-90C06F000000-cf77a6e9-eval18-20260316")},
	} {
		cache := dcap.NewChainCache(4)
		verify := func(cache *dcap.ChainCache) func() error {
			return func() error { _, err := k.c.verify(cache); return err }
		}
		var peer func() error
		if strings.HasPrefix(k.kind, "TDX") {
			peer = newReplies(k.c).verify
		}
		all = append(all, contenders(k.kind, bareQuote(t, k.c), verify(nil), verify(cache), "go-tdx-guest", peer)...)
	}
	return all
}

// simulated is evidence of the software TEE, as it comes.
func simulated(t *testing.T, p *softtee.Platform, kind softtee.Kind) quoteCase {
	t.Helper()
	quote, err := p.Quote(softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}})
	if err != nil {
		t.Fatal(err)
	}
	col, err := p.Collateral(kind.TEE(), false)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(col)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := dcap.ParseCollateral(doc)
	if err != nil {
		t.Fatal(err)
	}
	return quoteCase{name: string(kind), quote: quote, col: parsed, root: p.Root(),
		key: dcap.Roots{p.Root().PublicKey.(*ecdsa.PublicKey)}, at: time.Now(), crls: true}
}

func reportContenders(t *testing.T) []*contender {
	dir := vectors(t)
	var all []*contender
	for _, k := range [][2]string{{"SNP Milan", "milan-vcek-trustee"}, {"SNP Genoa", "genoa-vcek-ms"},
		{"SNP Turin", "turin-vcek-ms"}} {
		c := loadReport(t, filepath.Join(dir, "snp", k[1]))
		verify := func(cache *snp.Cache) func() error {
			return func() error { _, err := c.verify(cache); return err }
		}
		opts := newSEVGuest(t, c)
		peer := func() error { _, err := sevGuest(c, opts); return err }
		all = append(all, contenders(k[0], bareReport(t, c), verify(nil), verify(snp.NewCache(4)), "go-sev-guest", peer)...)
	}
	return all
}

// contenders are the lines of one kind; what is compared is measured side by side.
func contenders(kind string, b bares, cold, warm func() error, peerName string, peer func() error) []*contender {
	bareWarm := &contender{kind: kind, name: "bare " + counted(b.warm), run: func() error { return run(b.warm) }}
	ourWarm := &contender{kind: kind, name: "we, warm", run: warm, bare: bareWarm}
	bareCold := &contender{kind: kind, name: "bare " + counted(b.cold), run: func() error { return run(b.cold) }}
	ourCold := &contender{kind: kind, name: "we, cold", run: cold, bare: bareCold}
	all := []*contender{bareWarm, ourWarm, bareCold, ourCold}
	if peer == nil {
		return all
	}
	them := &contender{kind: kind, name: peerName, run: peer, bare: bareCold, cold: ourCold}
	if err := peer(); err != nil {
		them.refuses = err.Error()
	}
	return append(all, them)
}

// calibrate runs the contender once, which also fills its cache, and finds how often it fits into a sample.
func (c *contender) calibrate(t *testing.T, sample time.Duration) {
	t.Helper()
	if c.refuses != "" {
		return
	}
	c.ops = 3
	c.measure(t)
	c.measure(t)
	c.ops = max(1, int(float64(sample.Microseconds())/max(1, c.samples[1])))
	c.samples = nil
}

// measure takes one sample. Garbage of others is collected before, its own counts.
func (c *contender) measure(t *testing.T) {
	t.Helper()
	if c.refuses != "" {
		return
	}
	runtime.GC()
	before := cpu(t)
	for range c.ops {
		if err := c.run(); err != nil {
			t.Fatalf("%s, %s: %v", c.kind, c.name, err)
		}
	}
	c.samples = append(c.samples, float64((cpu(t)-before).Nanoseconds())/1e3/float64(c.ops))
}

// cpu is the time that all threads of this process have computed.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func table(all []*contender, rounds int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CPU time of one verification, all threads; medians [min … max] of %d interleaved rounds;\n"+
		"the ratios are those of the same round\n\n", rounds)
	fmt.Fprintf(&b, "%-18s %-28s %27s %11s %24s %10s\n", "kind", "what", "CPU µs", "per second", "× bare", "× we, cold")
	for _, c := range all {
		if c.refuses != "" {
			fmt.Fprintf(&b, "%-18s %-28s cannot: %s\n", c.kind, c.name, c.refuses)
			continue
		}
		m := median(c.samples)
		fmt.Fprintf(&b, "%-18s %-28s %8.1f [%7.1f … %7.1f] %11.0f", c.kind, c.name, m, slices.Min(c.samples),
			slices.Max(c.samples), 1e6/m)
		if c.bare != nil {
			r := ratios(c, c.bare)
			fmt.Fprintf(&b, " %6.2f [%5.2f … %5.2f]", median(r), slices.Min(r), slices.Max(r))
		}
		if c.cold != nil {
			fmt.Fprintf(&b, " %10.2f", median(ratios(c, c.cold)))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nBare is the signature verifications alone, with the hashes computed and the keys decoded beforehand.\n" +
		"Warm is with the chain cache holding this machine and this collateral. Evidence is from real hardware unless simulated.\n" +
		"Left out: fetching collateral, reading evidence from the wire, policy, the CRL of SNP (the vectors have none, so\n" +
		"neither we nor go-sev-guest check it here). The peers have no cache; go-tdx-guest gets collateral from memory,\n" +
		"go-sev-guest parsed roots. What a peer cannot verify it is not measured on; neither knows SGX.\n")
	return b.String()
}

func ratios(c, base *contender) []float64 {
	var out []float64
	for i := range c.samples {
		out = append(out, c.samples[i]/base.samples[i])
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.SortFunc(s, cmp.Compare[float64])
	return s[len(s)/2]
}
