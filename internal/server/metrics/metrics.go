// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what the Coordinator does and shows it to Prometheus, and keeps the log of recent activations
// (coordinator-runtime §6). All metric names of the Coordinator live here.
//
// The text exposition format is written by hand: a counter is a number in a map, and the Coordinator's trusted computing
// base is better off without the eight modules that a client library brings along.
//
// Invariants:
//
//   - Labels are bounded. A path is one of the API's own or "other"; a method is a known one or "unknown"; a Marble type is
//     one of the manifest's or "unknown" (at most maxTypes of them, then "other"). The label uuid exists because the
//     contract names it, and is always empty: it is chosen by strangers, so it would grow without bound.
//   - The event log holds at most maxEvents events and maxEventBytes bytes of evidence.
//   - There are no metrics of the Go runtime or the process.
package metrics

import (
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
)

// Options of New.
type Options struct {
	// Version and Commit of the program.
	Version, Commit string
	// State returns the state code of the client API, 0 if it cannot be told.
	State func() int
	// Manifest returns the current manifest and its fingerprint, nil and "" if there is none. It is asked at every
	// activation and must be cheap.
	Manifest func() (raw []byte, fingerprint string)
	// EarlyTCB counts platforms that Intel's early TCB data set would rate differently; nil is 0.
	EarlyTCB func() uint64
}

// Metrics are the Coordinator's metrics. All methods may be called by many goroutines at once.
type Metrics struct {
	opts   Options
	types  marbleTypes
	events events

	attempts, successes *vec

	requests, inFlight                    *vec
	duration, requestSize, responseSize   *vec
	rpcStarted, rpcHandled, rpcIn, rpcOut *vec
	scrapes, scrapesInFlight              *vec
}

// New returns metrics with the counters that exist from the start at 0.
func New(o Options) *Metrics {
	rpc := []string{"grpc_method", "grpc_service", "grpc_type"}
	m := &Metrics{
		opts:  o,
		types: marbleTypes{manifest: o.Manifest},

		attempts: counter("coordinator_marble_activations_total",
			"Number of all activation attempts by Marble type.", "type", "uuid"),
		successes: counter("coordinator_marble_activations_success_total",
			"Number of successful activations by Marble type.", "type", "uuid"),

		requests: counter("server_client_api_http_request_total",
			"Number of requests to the client API.", "code", "method", "path"),
		inFlight: gauge("server_client_api_http_in_flight_requests",
			"Number of requests to the client API that are being answered.", "path"),
		duration: histogram("server_client_api_http_request_duration_histogram_seconds",
			"How long requests to the client API took.", seconds(), "method", "path"),
		requestSize: histogram("server_client_api_http_request_size_histogram_bytes",
			"Size of requests to the client API.", sizes(), "path"),
		responseSize: histogram("server_client_api_http_response_size_histogram_bytes",
			"Size of response bodies of the client API.", sizes(), "path"),

		rpcStarted: counter("grpc_server_started_total", "Number of RPCs started on the server.", rpc...),
		rpcHandled: counter("grpc_server_handled_total", "Number of RPCs completed on the server, by code.",
			append([]string{"grpc_code"}, rpc...)...),
		rpcIn:  counter("grpc_server_msg_received_total", "Number of RPC messages received on the server.", rpc...),
		rpcOut: counter("grpc_server_msg_sent_total", "Number of RPC messages sent by the server.", rpc...),

		scrapes: counter("promhttp_metric_handler_requests_total", "Number of scrapes by HTTP status code.", "code"),
		scrapesInFlight: gauge("promhttp_metric_handler_requests_in_flight",
			"Number of scrapes that are being served."),
	}
	m.startAtZero()
	return m
}

// seconds and sizes are the bucket bounds of the contract.
func seconds() []float64 { return []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 5} }
func sizes() []float64   { return []float64{100, 1000, 2000, 5000, 10000} }

// activate returns the labels of the only RPC, after the given ones.
func activate(before ...string) []string { return append(before, "Activate", "rpc.Marble", "unary") }

func (m *Metrics) startAtZero() {
	for _, v := range []*vec{m.rpcStarted, m.rpcIn, m.rpcOut} {
		v.add(0, activate()...)
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		m.rpcHandled.add(0, activate(code.String())...)
	}
	for _, code := range []string{"200", "500", "503"} {
		m.scrapes.add(0, code)
	}
	m.scrapesInFlight.add(0)
}

// Request counts a request to the client API that begins. path must be one of the API's own paths, or "" for any other.
// The returned function counts its end; sizes are in bytes.
func (m *Metrics) Request(path string) (end func(method string, code int, received, sent int64, took time.Duration)) {
	if path == "" {
		path = "other"
	}
	m.inFlight.add(1, path)
	return func(method string, code int, received, sent int64, took time.Duration) {
		method = methodLabel(method)
		m.inFlight.add(-1, path)
		m.requests.add(1, strconv.Itoa(code), method, path)
		m.duration.observe(took.Seconds(), method, path)
		m.requestSize.observe(float64(received), path)
		m.responseSize.observe(float64(sent), path)
	}
}

// methodLabel is the method in lower case if HTTP knows it.
func methodLabel(method string) string {
	switch method {
	case "GET":
		return "get"
	case "POST":
		return "post"
	case "PUT":
		return "put"
	case "HEAD":
		return "head"
	case "DELETE":
		return "delete"
	case "OPTIONS":
		return "options"
	case "PATCH":
		return "patch"
	case "CONNECT":
		return "connect"
	case "TRACE":
		return "trace"
	}
	return "unknown"
}

// Activation counts an activation attempt that begins. The returned function counts its end: on success (codes.OK) the
// activation also goes to the event log, with the Marble's canonical UUID and its evidence as sent.
func (m *Metrics) Activation(marbleType string) (end func(code codes.Code, uuid string, evidence []byte)) {
	label := m.types.label(marbleType)
	m.attempts.add(1, label, "")
	m.rpcStarted.add(1, activate()...)
	m.rpcIn.add(1, activate()...)
	return func(code codes.Code, uuid string, evidence []byte) {
		m.rpcHandled.add(1, activate(code.String())...)
		if code != codes.OK {
			return
		}
		m.rpcOut.add(1, activate()...)
		m.successes.add(1, label, "")
		m.events.add(marbleType, uuid, evidence)
	}
}

// Write writes all metrics in the text exposition format, version 0.0.4, sorted by name.
func (m *Metrics) Write(w io.Writer) error {
	state := gauge("coordinator_state", "State of the Coordinator: 1 recovery, 2 accepting a manifest, 3 accepting Marbles.")
	state.add(float64(m.opts.State()))
	version := gauge("coordinator_version_info", "Version of the Coordinator, in its labels; always 0.", "commit", "version")
	version.add(0, m.opts.Commit, m.opts.Version)
	early := counter("coordinator_early_tcb_changes_total",
		"Number of platforms and data sets for which Intel's early TCB data would change the status.")
	early.add(0)
	if m.opts.EarlyTCB != nil {
		early.add(float64(m.opts.EarlyTCB()))
	}
	return write(w, []*vec{
		early, m.successes, m.attempts, state, version,
		m.rpcHandled, m.rpcIn, m.rpcOut, m.rpcStarted,
		m.scrapesInFlight, m.scrapes,
		m.inFlight, m.duration, m.requestSize, m.requests, m.responseSize,
	})
}
