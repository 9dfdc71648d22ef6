// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bufio"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// vec is one metric: its series by label values. Counters, gauges and histograms differ only in kind and bounds.
type vec struct {
	name, help, kind string
	labels           []string
	bounds           []float64 // of a histogram's buckets

	mu     sync.Mutex
	series map[string]*series // by label values, joined
}

// series is one line of a counter or gauge, or the lines of one histogram.
type series struct {
	values  []string
	value   float64 // a histogram's sum
	count   uint64
	buckets []uint64 // not cumulative
}

func counter(name, help string, labels ...string) *vec {
	return &vec{name: name, help: help, kind: "counter", labels: labels, series: map[string]*series{}}
}

func gauge(name, help string, labels ...string) *vec {
	return &vec{name: name, help: help, kind: "gauge", labels: labels, series: map[string]*series{}}
}

func histogram(name, help string, bounds []float64, labels ...string) *vec {
	return &vec{name: name, help: help, kind: "histogram", labels: labels, bounds: bounds, series: map[string]*series{}}
}

// at returns the series of the label values. v.mu is held.
func (v *vec) at(values []string) *series {
	key := strings.Join(values, "\xff") // never part of a label value, which is UTF-8
	s := v.series[key]
	if s == nil {
		s = &series{values: slices.Clone(values), buckets: make([]uint64, len(v.bounds))}
		v.series[key] = s
	}
	return s
}

func (v *vec) add(n float64, values ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at(values).value += n
}

func (v *vec) observe(x float64, values ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.at(values)
	s.value += x
	s.count++
	if i, _ := slices.BinarySearch(v.bounds, x); i < len(s.buckets) {
		s.buckets[i]++ // the first bound that is not below x
	}
}

// write writes the metrics that have series.
func write(w io.Writer, all []*vec) error {
	out := bufio.NewWriter(w)
	for _, v := range all {
		v.write(out)
	}
	return out.Flush()
}

func (v *vec) write(out *bufio.Writer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.series) == 0 {
		return
	}
	line(out, "# HELP ", v.name, " ", v.help)
	line(out, "# TYPE ", v.name, " ", v.kind)
	for _, key := range slices.Sorted(maps.Keys(v.series)) {
		s := v.series[key]
		if v.kind == "histogram" {
			v.writeHistogram(out, s)
			continue
		}
		line(out, v.name, v.braces(s.values), " ", number(s.value))
	}
}

func (v *vec) writeHistogram(out *bufio.Writer, s *series) {
	var sum uint64
	for i, bound := range v.bounds {
		sum += s.buckets[i]
		line(out, v.name, "_bucket", v.braces(s.values, "le", number(bound)), " ", strconv.FormatUint(sum, 10))
	}
	line(out, v.name, "_bucket", v.braces(s.values, "le", "+Inf"), " ", strconv.FormatUint(s.count, 10))
	line(out, v.name, "_sum", v.braces(s.values), " ", number(s.value))
	line(out, v.name, "_count", v.braces(s.values), " ", strconv.FormatUint(s.count, 10))
}

// braces renders labels: {a="1",b="2"}, or nothing without any.
func (v *vec) braces(values []string, more ...string) string {
	var pairs []string
	for i, name := range v.labels {
		pairs = append(pairs, name+`="`+escape(values[i])+`"`)
	}
	for i := 0; i < len(more); i += 2 {
		pairs = append(pairs, more[i]+`="`+more[i+1]+`"`)
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// line writes the parts and a newline. Errors stick to the writer and surface in Flush.
func line(out *bufio.Writer, parts ...string) {
	for _, p := range parts {
		_, _ = out.WriteString(p)
	}
	_ = out.WriteByte('\n')
}
