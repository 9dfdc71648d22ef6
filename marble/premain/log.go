// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package premain

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
)

// logger writes the lines of marble-api §9: text with the prefix "[PreMain] ", or with EDG_LOG_FORMAT=json one object
// a line with the keys of the Coordinator's log: level, ts (seconds since 1970), msg.
func logger(w io.Writer, getenv func(string) string) *slog.Logger {
	if !strings.EqualFold(getenv("EDG_LOG_FORMAT"), "json") {
		return slog.New(prefixed{w: w})
	}
	options := &slog.HandlerOptions{ReplaceAttr: contractKeys}
	if getenv("EDG_COORDINATOR_DEV_MODE") == "1" {
		options.Level = slog.LevelDebug
		return slog.New(slog.NewTextHandler(w, options))
	}
	if getenv("EDG_DEBUG_LOGGING") == "1" {
		options.Level = slog.LevelDebug
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func contractKeys(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey:
		return slog.Float64("ts", float64(a.Value.Time().UnixMilli())/1000)
	case slog.LevelKey:
		return slog.String("level", strings.ToLower(a.Value.String()))
	}
	return a
}

// prefixed writes "[PreMain] 2006/01/02 15:04:05 message key=value", one write a line.
type prefixed struct {
	w     io.Writer
	attrs []slog.Attr
}

func (p prefixed) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (p prefixed) Handle(ctx context.Context, record slog.Record) error {
	var attrs bytes.Buffer
	keep := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}
	handler := slog.NewTextHandler(&attrs, &slog.HandlerOptions{ReplaceAttr: keep}).WithAttrs(p.attrs)
	if err := handler.Handle(ctx, record); err != nil {
		return err
	}
	line := "[PreMain] " + record.Time.Format("2006/01/02 15:04:05 ") + record.Message
	if rest := strings.TrimSpace(attrs.String()); rest != "" {
		line += " " + rest
	}
	_, err := io.WriteString(p.w, strings.ReplaceAll(line, "\n", "; ")+"\n")
	return err
}

func (p prefixed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return prefixed{p.w, append(p.attrs[:len(p.attrs):len(p.attrs)], attrs...)}
}

// WithGroup does nothing: nothing here groups.
func (p prefixed) WithGroup(string) slog.Handler { return p }
