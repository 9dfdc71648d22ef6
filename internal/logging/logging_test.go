// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func at(h slog.Handler, level slog.Level, msg string, attrs ...slog.Attr) error {
	r := slog.NewRecord(time.Unix(1790000000, 250_000_000), level, msg, 0)
	r.AddAttrs(attrs...)
	return h.Handle(context.Background(), r)
}

func TestJSONLineIsTheContracts(t *testing.T) {
	var out bytes.Buffer
	h := NewHandler(&out, Options{})
	err := at(h, slog.LevelWarn, `a <b> "c"`, slog.String("s", "x\ny"), slog.Int("i", 3), slog.Bool("b", true),
		slog.Any("error", errors.New("broken")), slog.Duration("d", 1500*time.Millisecond), slog.Any("nil", nil),
		slog.Any("list", []string{"bob", "carol"}), slog.Group("g", slog.Uint64("u", 7)),
		slog.Time("t", time.Unix(1, 0).UTC()))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"level":"warn","ts":1790000000.25,"msg":"a <b> \"c\"","s":"x\ny","i":3,"b":true,"error":"broken","d":1.5,` +
		`"nil":null,"list":["bob","carol"],"g.u":7,"t":"1970-01-01T00:00:01Z"}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTextLineIsTabSeparated(t *testing.T) {
	var out bytes.Buffer
	h := NewHandler(&out, Options{Text: true})
	if err := at(h, slog.LevelInfo, "fake\n\x1b[2Jline", slog.String("k", "v\n")); err != nil {
		t.Fatal(err)
	}
	want := "2026-09-21T14:13:20.250Z\tINFO\t\tfake␦␦[2Jline\t{\"k\":\"v\\n\"}\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCallerIsFolderFileAndLine(t *testing.T) {
	var out bytes.Buffer
	New(&out, Options{}).Info("here")
	if !regexp.MustCompile(`"caller":"logging/logging_test.go:\d+"`).MatchString(out.String()) {
		t.Errorf("no caller in %s", out.String())
	}
}

func TestLevels(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, Options{})
	l.Debug("hidden")
	if out.Len() != 0 {
		t.Errorf("debug line written at level info: %s", out.String())
	}
	New(&out, Options{Level: slog.LevelDebug}).Debug("shown")
	if !strings.Contains(out.String(), `"level":"debug"`) {
		t.Errorf("no debug line: %s", out.String())
	}
	for text, want := range map[string]slog.Level{"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn,
		"error": slog.LevelError, "": slog.LevelError, "panic": slog.LevelError, "rubbish": slog.LevelError} {
		if got := ParseLevel(text); got != want {
			t.Errorf("ParseLevel(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestRequestIDTravelsInTheContext(t *testing.T) {
	var out bytes.Buffer
	id := NewRequestID()
	ctx := WithRequestID(context.Background(), id)
	New(&out, Options{}).With("a", 1).InfoContext(ctx, "x")
	if want := `"a":1,"requestID":"` + id + `"`; !strings.Contains(out.String(), want) {
		t.Errorf("%s lacks %s", out.String(), want)
	}
	if a, b := NewRequestID(), NewRequestID(); a == b || len(a) != 16 {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestLongTextIsCutAndSaysSo(t *testing.T) {
	var out bytes.Buffer
	long := slog.String("long", strings.Repeat("é", 100_000))
	if err := at(NewHandler(&out, Options{}), slog.LevelInfo, "m", long); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "é…[183616 bytes cut]") {
		t.Errorf("not cut: …%s", out.String()[out.Len()-60:])
	}
}

// Whatever is logged, a line is one line, at most MaxLine bytes, and JSON.
func TestEveryLineIsBoundedJSON(t *testing.T) {
	text := rapid.OneOf(
		rapid.String(),
		rapid.Custom(func(t *rapid.T) string {
			unit := rapid.SampledFrom([]string{"a", "\x00", "\xff", "é", `"`, "\n"}).Draw(t, "unit")
			return strings.Repeat(unit, rapid.IntRange(0, 100_000).Draw(t, "n"))
		}))
	rapid.Check(t, func(t *rapid.T) {
		var out bytes.Buffer
		h := NewHandler(&out, Options{Text: false})
		var attrs []slog.Attr
		for range rapid.IntRange(0, 8).Draw(t, "attributes") {
			attrs = append(attrs, slog.String(text.Draw(t, "key"), text.Draw(t, "value")))
		}
		if err := at(h, slog.LevelInfo, text.Draw(t, "msg"), attrs...); err != nil {
			t.Fatal(err)
		}
		if out.Len() > MaxLine {
			t.Fatalf("%d bytes", out.Len())
		}
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
			t.Fatalf("%d newlines", n)
		}
		if !json.Valid(out.Bytes()) {
			t.Fatalf("not JSON: %.200q", out.String())
		}
	})
}

func TestTextLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	long := strings.Repeat("\x01", 200_000)
	attrs := []slog.Attr{slog.String("a", long), slog.String("b", long), slog.String("c", long)}
	if err := at(NewHandler(&out, Options{Text: true}), slog.LevelInfo, long, attrs...); err != nil {
		t.Fatal(err)
	}
	if out.Len() > MaxLine || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Errorf("%d bytes, %d newlines", out.Len(), bytes.Count(out.Bytes(), []byte("\n")))
	}
}

func TestHandlerObeysSlog(t *testing.T) {
	var out bytes.Buffer
	results := func() []map[string]any {
		var all []map[string]any
		for line := range bytes.Lines(out.Bytes()) {
			m := map[string]any{}
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatal(err)
			}
			all = append(all, nest(m))
		}
		return all
	}
	err := slogtest.TestHandler(NewHandler(&out, Options{}), results)
	// The contract's ts is always there; slogtest's one complaint is that a zero time has none.
	if err != nil && !strings.Contains(err.Error(), "zero Record.Time") {
		t.Error(err)
	}
}

// nest undoes the dotted prefixes and the contract's names, for slogtest.
func nest(m map[string]any) map[string]any {
	res := map[string]any{}
	renamed := map[string]string{"ts": "time", "caller": "source"}
	for k, v := range m {
		if name, ok := renamed[k]; ok {
			k = name
		}
		in := res
		parts := strings.Split(k, ".")
		for _, p := range parts[:len(parts)-1] {
			if _, ok := in[p]; !ok {
				in[p] = map[string]any{}
			}
			in = in[p].(map[string]any)
		}
		in[parts[len(parts)-1]] = v
	}
	return res
}
