// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package console is how the CLI speaks: data on stdout, everything said about it on stderr, colors only on terminals,
// and files that are complete once they are there.
//
// Invariants: Say and Write go to stdout, Note and Warn to stderr, nothing goes to both. Files with secrets are
// readable by their owner only, also if they were there before with another mode.
package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Terminal colors, ECMA-48 SGR codes.
const (
	Red    = "31"
	Yellow = "33"
	Cyan   = "36"
)

// Paint colors text if on.
func Paint(on bool, color, text string) string {
	if !on {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Console is the output of one run.
type Console struct {
	// Out is stdout, Err is stderr.
	Out, Err io.Writer
	// ColorOut and ColorErr: the stream is a terminal that shows colors, and nobody objects.
	ColorOut, ColorErr bool
	// Live is stderr if lines on it can be rewritten; nil: they cannot.
	Live *Terminal
}

// Say prints a line of the result to stdout.
func (c *Console) Say(format string, args ...any) { fmt.Fprintf(c.Out, format+"\n", args...) }

// Note prints a line about the progress to stderr.
func (c *Console) Note(format string, args ...any) { fmt.Fprintf(c.Err, format+"\n", args...) }

// Warn prints a warning to stderr.
func (c *Console) Warn(format string, args ...any) {
	c.Note("%s %s", Paint(c.ColorErr, Yellow, "Warning:"), fmt.Sprintf(format, args...))
}

// Write prints data to stdout as it is. Unlike say, it notices that stdout takes no more.
func (c *Console) Write(data []byte) error {
	_, err := c.Out.Write(data)
	return err
}

// WriteJSON prints a value to stdout, indented.
func (c *Console) WriteJSON(value any) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return err
	}
	return c.Write(out.Bytes())
}

// Format is the value of --output where it is "text" or "json".
type Format string

// String, Type and Set make Format a flag.
func (f *Format) String() string { return string(*f) }
func (f *Format) Type() string   { return "text|json" }
func (f *Format) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("must be text or json")
	}
	*f = Format(s)
	return nil
}

// JSON tells whether JSON was asked for.
func (f *Format) JSON() bool { return *f == "json" }

// Add adds the flag.
func (f *Format) Add(cmd *cobra.Command) {
	*f = "text"
	cmd.Flags().VarP(f, "output", "o", "output format")
}

// Target is the value of --output where scripts expect it to be a file: "json" alone is a format.
type Target string

const targetUsage = `file to write to, or "json" to print JSON (a file of that name is ./json)`

// Add adds the flag.
func (t *Target) Add(cmd *cobra.Command, byDefault string) {
	cmd.Flags().StringVarP((*string)(t), "output", "o", byDefault, targetUsage)
}

// JSON tells whether JSON on stdout was asked for.
func (t Target) JSON() bool { return t == "json" }

// File is the path to write to; empty: stdout.
func (t Target) File() string {
	if t.JSON() {
		return ""
	}
	return string(t)
}

// SaveSecret writes data to a file that only its owner can read: mode 0600, also if it existed with another. The data
// has reached the disk on return.
func SaveSecret(path string, data []byte) error { return save(path, data, 0o600, os.O_TRUNC) }

// SaveNew is SaveSecret for a file that must not exist.
func SaveNew(path string, data []byte) error { return save(path, data, 0o600, os.O_EXCL) }

// SavePublic writes data to a file with the usual mode.
func SavePublic(path string, data []byte) error { return save(path, data, 0o644, os.O_TRUNC) }

func save(path string, data []byte, mode os.FileMode, flag int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flag, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	regular := err == nil && info.Mode().IsRegular() // not a pipe or a terminal
	if regular && mode == 0o600 {
		err = f.Chmod(mode)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil && regular {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
