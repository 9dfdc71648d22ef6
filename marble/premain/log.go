// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package premain

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/marblerun/marblerun/internal/logging"
)

// logger writes the lines of marble-api §9: text with the prefix "[PreMain] ", or with EDG_LOG_FORMAT=json the lines
// of the Coordinator's log.
func logger(w io.Writer, getenv func(string) string) *slog.Logger {
	if strings.EqualFold(getenv("EDG_LOG_FORMAT"), "json") {
		development := getenv("EDG_COORDINATOR_DEV_MODE") == "1"
		options := logging.Options{Text: development}
		if development || getenv("EDG_DEBUG_LOGGING") == "1" {
			options.Level = slog.LevelDebug
		}
		return logging.New(w, options)
	}
	return slog.New(prefixed{w: w})
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
