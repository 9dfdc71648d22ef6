// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package qcnl reads sgx_default_qcnl.conf, the configuration of Intel's quote provider library, which machines with
// SGX have already: JSON with comments, or the older lines PCCS_URL=… and USE_SECURE_CERT=…
//
// Invariants: pure; unknown keys are ignored, as Intel's library does; known keys with a wrong value are an error.
package qcnl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 1 << 20

// DefaultPath is where the file is on most machines.
const DefaultPath = "/etc/sgx_default_qcnl.conf"

// Config is what the file says. Numbers are 0 and strings empty where it says nothing.
type Config struct {
	// PCCSURL is the base URL of the caching service. CollateralService, if there, replaces it for collateral.
	PCCSURL           string
	CollateralService string
	// UseSecureCert: the TLS certificate of the service is checked. The default is true.
	UseSecureCert bool
	// TCBUpdateType is "standard" or "early".
	TCBUpdateType string
	// RetryTimes is how often to try again, RetryDelay how many seconds later.
	RetryTimes int
	RetryDelay int
	// LocalCacheOnly: PCK certificates come from the local cache only. It says nothing about collateral.
	LocalCacheOnly bool
	// CollateralExpireHours is how long collateral is cached (verify_collateral_cache_expire_hours).
	CollateralExpireHours int
	// CustomRequestOptions are headers and parameters of requests for PCK certificates, as they are.
	CustomRequestOptions json.RawMessage
}

// Collateral is the base URL of the service that has collateral; may be empty.
func (c Config) Collateral() string {
	if c.CollateralService != "" {
		return c.CollateralService
	}
	return c.PCCSURL
}

// Parse reads the file.
func Parse(data []byte) (Config, error) {
	if len(data) > MaxSize {
		return Config{}, fmt.Errorf("QCNL configuration is larger than %d bytes", MaxSize)
	}
	plain := bytes.TrimSpace(uncomment(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	c := Config{UseSecureCert: true}
	values := map[string]json.RawMessage{}
	if len(plain) > 0 && plain[0] == '{' {
		if err := json.Unmarshal(plain, &values); err != nil {
			return Config{}, fmt.Errorf("QCNL configuration is not JSON: %w", err)
		}
	} else if err := lines(plain, values); err != nil {
		return Config{}, err
	}
	return c, c.fill(values)
}

// lines reads KEY=value.
func lines(plain []byte, values map[string]json.RawMessage) error {
	for line := range strings.Lines(string(plain)) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "":
			continue
		case !ok:
			return errors.New("QCNL configuration is neither JSON nor lines KEY=value")
		}
		raw, err := json.Marshal(strings.Trim(strings.TrimSpace(value), `"`))
		if err != nil {
			return fmt.Errorf("QCNL configuration: %w", err)
		}
		values[strings.ToLower(strings.TrimSpace(key))] = raw
	}
	return nil
}

// fill sets all fields and reports all values that are wrong.
func (c *Config) fill(values map[string]json.RawMessage) error {
	fields := []struct {
		key string
		set func(json.RawMessage) error
	}{
		{"pccs_url", text(&c.PCCSURL)},
		{"collateral_service", text(&c.CollateralService)},
		{"use_secure_cert", boolean(&c.UseSecureCert)},
		{"tcb_update_type", text(&c.TCBUpdateType)},
		{"retry_times", number(&c.RetryTimes)},
		{"retry_delay", number(&c.RetryDelay)},
		{"local_cache_only", boolean(&c.LocalCacheOnly)},
		{"verify_collateral_cache_expire_hours", number(&c.CollateralExpireHours)},
		{"custom_request_options", func(raw json.RawMessage) error { c.CustomRequestOptions = raw; return nil }},
	}
	var problems []error
	for _, f := range fields {
		raw, ok := values[f.key]
		if !ok || string(raw) == "null" {
			continue
		}
		if err := f.set(raw); err != nil {
			problems = append(problems, fmt.Errorf("QCNL configuration: %s: %w", f.key, err))
		}
	}
	if c.TCBUpdateType = strings.ToLower(c.TCBUpdateType); c.TCBUpdateType != "" && c.TCBUpdateType != "standard" &&
		c.TCBUpdateType != "early" {
		problems = append(problems, fmt.Errorf("QCNL configuration: tcb_update_type: %.40q is neither standard nor early",
			c.TCBUpdateType))
	}
	return errors.Join(problems...)
}

func text(dst *string) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if json.Unmarshal(raw, dst) != nil {
			return errors.New("want a string")
		}
		*dst = strings.TrimSpace(*dst)
		return nil
	}
}

// boolean reads true, false, or such a string in any case.
func boolean(dst *bool) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		switch strings.ToLower(strings.Trim(string(raw), `" `)) {
		case "true":
			*dst = true
		case "false":
			*dst = false
		default:
			return errors.New("want true or false")
		}
		return nil
	}
}

// number reads an integer that is not negative, also in a string.
func number(dst *int) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		n, err := strconv.ParseUint(strings.Trim(string(raw), `"`), 10, 31)
		if err != nil || n > math.MaxInt32/3600 {
			return errors.New("want a whole number, at most 596523")
		}
		*dst = int(n)
		return nil
	}
}

// uncomment removes comments (// and # up to the end of the line, /* */) and commas before a closing bracket, except in
// strings.
func uncomment(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		n, keep := 1, true
		switch c := data[0]; {
		case c == '"':
			n = stringEnd(data)
		case c == '#' || bytes.HasPrefix(data, []byte("//")) && !bytes.HasSuffix(out, []byte(":")): // but not in http://
			n, keep = until(data, "\n"), false
		case bytes.HasPrefix(data, []byte("/*")):
			n, keep = until(data, "*/"), false
		case c == '}' || c == ']':
			if before, ok := bytes.CutSuffix(bytes.TrimRight(out, " \t\r\n"), []byte(",")); ok {
				out = before
			}
		}
		if keep {
			out = append(out, data[:n]...)
		} else {
			out = append(out, '\n')
		}
		data = data[n:]
	}
	return out
}

// stringEnd is the length of the string that data begins with.
func stringEnd(data []byte) int {
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// until is the length up to and with an end.
func until(data []byte, end string) int {
	if i := bytes.Index(data, []byte(end)); i >= 0 {
		return i + len(end)
	}
	return len(data)
}
