// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package logging writes the Coordinator's log lines as the runtime contract wants them (coordinator-runtime §5).
//
// A line is one JSON object on standard error with the keys level, ts (seconds since 1970, a float), caller and msg,
// then the attributes in the order in which they were given:
//
//	{"level":"info","ts":1790000000.25,"caller":"server/server.go:71","msg":"Starting the client server","address":":4433"}
//
// In development mode a line is text: time, LEVEL, caller and msg separated by tabs, then the attributes as JSON.
//
// Invariants:
//
//   - A line is at most MaxLine bytes long, newline included. Texts longer than maxText are cut and say so; attributes
//     that would still make the line too long are left out, and the line carries "truncated":true.
//   - A line is one write, so lines of concurrent goroutines never mix.
//   - A request id in the context (WithRequestID) appears as the attribute requestID.
//   - The package does not know what a secret is. Its callers never pass one.
package logging

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"strings"
	"sync"
)

const (
	// MaxLine is the size in bytes that no line exceeds, its newline included.
	MaxLine = 60 << 10
	// maxText is how many bytes of one text are kept.
	maxText = 16 << 10
)

// Options say how lines look and which are written.
type Options struct {
	// Text selects the tab-separated form of the development mode instead of JSON.
	Text bool
	// Level is the lowest level that is written; nil means info.
	Level slog.Leveler
}

// New returns a logger that writes lines to w, one Write call each.
func New(w io.Writer, o Options) *slog.Logger {
	return slog.New(NewHandler(w, o))
}

// NewHandler returns the handler behind New.
func NewHandler(w io.Writer, o Options) *Handler {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	return &Handler{out: &output{w: w}, opts: o}
}

// ParseLevel reads debug, info, warn or error. Anything else is error, as EDG_HTTP_ERROR_LOG_LEVEL has it.
func ParseLevel(s string) slog.Level {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// output serialises whole lines.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *output) line(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.w.Write(b)
	return err
}

type requestKey struct{}

// WithRequestID returns a context whose log lines carry the id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestID returns the context's request id, "" if there is none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// NewRequestID returns 16 random hex digits. It names a request in logs and replies; it is no credential.
func NewRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}
