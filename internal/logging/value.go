// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// appendValue appends v as JSON: times in RFC 3339, durations in seconds, errors and Stringers as text.
func appendValue(b []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindString:
		return appendText(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindFloat64:
		return appendFloat(b, v.Float64())
	case slog.KindDuration:
		return appendFloat(b, v.Duration().Seconds())
	case slog.KindTime:
		return appendText(b, v.Time().Format(time.RFC3339Nano))
	default:
		return appendAny(b, v.Any())
	}
}

func appendAny(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case error:
		return appendText(b, v.Error())
	case fmt.Stringer:
		return appendText(b, v.String())
	}
	data, err := json.Marshal(v)
	if err != nil {
		return appendText(b, "!ERROR: "+err.Error())
	}
	if len(data) > maxText {
		return appendText(b, string(data))
	}
	return append(b, data...)
}

// appendFloat appends f as a JSON number; what JSON has no number for becomes text.
func appendFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendText(b, strconv.FormatFloat(f, 'g', -1, 64))
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

// appendText appends s, cut to maxText, as a JSON string. HTML characters stay readable: the line is not for browsers.
func appendText(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(cut(s)); err != nil { // unreachable: a string always encodes
		return append(b, `""`...)
	}
	quoted := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(quoted) <= 2*maxText {
		return append(b, quoted...)
	}
	// Escapes blow up to six times: keep less of a text that is mostly control characters.
	return appendText(b, s[:len(s)/4])
}

// cut shortens s to maxText bytes at a rune boundary and says how much is gone.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…[" + strconv.Itoa(len(s)-end) + " bytes cut]"
}

// oneLine replaces control characters, so that a message cannot fake a line or move the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '␦'
		}
		return r
	}, s)
}
