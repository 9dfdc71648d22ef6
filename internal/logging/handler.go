// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Handler is a slog.Handler that writes the contract's lines. Groups become a dotted prefix of their keys.
type Handler struct {
	out  *output
	opts Options
	// bound are the attributes given by WithAttrs, their keys already prefixed.
	bound []slog.Attr
	// prefix is the open groups, each followed by a dot.
	prefix string
}

// Enabled reports whether lines of the level are written.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.opts.Level.Level()
}

// WithAttrs returns a handler whose lines carry the attributes.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.bound = h.bound[:len(h.bound):len(h.bound)]
	for _, a := range attrs {
		c.bound = flatten(c.bound, h.prefix, a)
	}
	return &c
}

// WithGroup returns a handler that prefixes the keys of later attributes.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix = h.prefix + name + "."
	return &c
}

// Handle writes one line.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	attrs := h.bound[:len(h.bound):len(h.bound)]
	if id := RequestID(ctx); id != "" {
		attrs = append(attrs, slog.String("requestID", id))
	}
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.prefix, a)
		return true
	})
	if h.opts.Text {
		return h.out.line(textLine(r, attrs))
	}
	return h.out.line(jsonLine(r, attrs))
}

// flatten appends a with its key prefixed; a group becomes its members. Attributes without key and value are dropped, as
// slog asks of handlers.
func flatten(to []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return to
	}
	if a.Value.Kind() != slog.KindGroup {
		return append(to, slog.Attr{Key: prefix + a.Key, Value: a.Value})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, member := range a.Value.Group() {
		to = flatten(to, prefix, member)
	}
	return to
}

func jsonLine(r slog.Record, attrs []slog.Attr) []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"level":"`...)
	b = append(b, strings.ToLower(r.Level.String())...)
	b = append(b, `","ts":`...)
	b = appendSeconds(b, r.Time)
	if at := caller(r.PC); at != "" {
		b = append(b, `,"caller":`...)
		b = appendText(b, at)
	}
	b = append(b, `,"msg":`...)
	b = appendText(b, r.Message)
	b = appendAttrs(b, attrs, true)
	return append(b, "}\n"...)
}

func textLine(r slog.Record, attrs []slog.Attr) []byte {
	b := make([]byte, 0, 512)
	b = r.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '\t')
	b = append(b, r.Level.String()...)
	b = append(b, '\t')
	b = append(b, caller(r.PC)...)
	b = append(b, '\t')
	b = append(b, oneLine(cut(r.Message))...)
	if len(attrs) > 0 {
		b = append(b, "\t{"...)
		b = appendAttrs(b, attrs, false)
		b = append(b, '}')
	}
	return append(b, '\n')
}

// appendAttrs appends "key":value pairs until the line is full. more says that a pair precedes the first one.
func appendAttrs(b []byte, attrs []slog.Attr, more bool) []byte {
	const mark, end = `"truncated":true`, 4
	for _, a := range attrs {
		start := len(b)
		if more {
			b = append(b, ',')
		}
		b = appendText(b, a.Key)
		b = append(b, ':')
		b = appendValue(b, a.Value)
		if len(b) > MaxLine-len(mark)-end {
			b = b[:start]
			if more {
				b = append(b, ',')
			}
			return append(b, mark...)
		}
		more = true
	}
	return b
}

// appendSeconds appends t as seconds since 1970 with microseconds.
func appendSeconds(b []byte, t time.Time) []byte {
	return strconv.AppendFloat(b, float64(t.UnixMicro())/1e6, 'f', -1, 64)
}

// caller is the last folder, the file and the line of a call, "" if unknown.
func caller(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if frame.File == "" {
		return ""
	}
	folder := filepath.Base(filepath.Dir(frame.File))
	return folder + "/" + filepath.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
}
