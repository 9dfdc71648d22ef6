// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// width is the widest line in columns.
const width = 80

// screen writes for a person. Colors appear on a terminal only, and not with NO_COLOR.
type screen struct {
	out   io.Writer
	color bool
}

func newScreen(file *os.File, getenv func(string) string) *screen {
	color := term.IsTerminal(int(file.Fd())) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return &screen{out: file, color: color}
}

// The colors, as SGR parameters.
const (
	bold  = "1"
	dim   = "2"
	red   = "1;31"
	green = "1;32"
	blue  = "36"
)

func (s *screen) paint(style, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (s *screen) print(text string) { fmt.Fprintln(s.out, text) }

const picture = `
     marblerun CLI                                  any HTTPS client
           |                                               |
           | manifest, chain of certificates               | verifies the chain
           v                                               v
   +---------------+       keys, certificates      +---------------+
   |               |------------------------------>|      web      |
   |               |                               +---------------+
   |  Coordinator  |                               +---------------+
   |               |------------------------------>|  echo-server  |<---+
   |               |                               +---------------+    | mutual
   |               |                               +---------------+    | TLS
   |               |------------------------------>|  echo-client  |----+
   +---------------+                               +---------------+
`

func (s *screen) welcome() {
	s.print("")
	s.print(s.paint(bold, "  Marblerun: one manifest decides which programs make up a deployment"))
	s.print(s.paint(blue, picture))
	s.paragraph("  ", "Each box is a process on this machine. One thing is simulated: the hardware at the root of "+
		"trust, by a program that signs in its place, so nothing here is protected. All the rest is real: evidence "+
		"in the formats of SGX, TDX and SEV-SNP, its verification, keys, certificates, refusals, and a journal on disk.")
}

func (s *screen) title(n, of int, text string) {
	s.print("")
	s.print(s.paint(bold, fmt.Sprintf("[%d/%d] %s", n, of, text)))
}

// line explains.
func (s *screen) line(text string) { s.paragraph("      ", text) }

// together stands for the blank in "$(cat FILE)", which stays on one line.
const together = "\ue000"

// command shows what is run, in a form that a shell understands.
func (s *screen) command(text string) {
	text = strings.ReplaceAll(text, "$(cat ", "$(cat"+together)
	lines := wrap(text, width-12)
	for i, line := range lines {
		prefix, end := "      $ ", ""
		if i > 0 {
			prefix = "          "
		}
		if i < len(lines)-1 {
			end = " \\"
		}
		s.print(s.paint(blue, prefix+strings.ReplaceAll(line, together, " ")+end))
	}
}

// output shows what a program said.
func (s *screen) output(text string) {
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		for _, part := range wrap(strings.TrimRight(line, "\n"), width-8) {
			s.print(s.paint(dim, "      | "+part))
		}
	}
}

func (s *screen) proof(text string, took time.Duration) {
	lines := wrap(fmt.Sprintf("%s (%s)", text, seconds(took)), width-9)
	for i, line := range lines {
		if i == 0 {
			s.print("   " + s.paint(green, "ok") + " " + line)
		} else {
			s.print("      " + line)
		}
	}
}

func (s *screen) failure(what string, err error) {
	s.print("")
	s.print(s.paint(red, "FAILED: "+what))
	for line := range strings.Lines(err.Error()) {
		s.line(strings.TrimSpace(line))
	}
}

// tail shows the end of a log.
func (s *screen) tail(name, text string) {
	s.print("")
	s.print(s.paint(bold, "      the last lines of "+name+".log"))
	s.output(text)
}

func (s *screen) farewell(took time.Duration) {
	s.print("")
	s.print(s.paint(green, "  That was it.") + " All of it took " + seconds(took) + ".")
}

func (s *screen) paragraph(indent, text string) {
	for _, line := range wrap(text, width-len(indent)) {
		s.print(indent + line)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// wrap breaks text that is too long into lines of at most n characters, between words where it can. Leading blanks
// stay.
func wrap(text string, n int) []string {
	text = strings.ReplaceAll(text, "\t", "  ")
	if len([]rune(text)) <= n {
		return []string{text}
	}
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	if len(indent) > n/2 {
		indent = ""
	}
	var lines []string
	current := ""
	for _, word := range strings.Fields(text) {
		if current != "" && len([]rune(indent+current+" "+word)) > n {
			lines, current = append(lines, indent+current), ""
		}
		for runes := []rune(word); len(indent)+len(runes) > n; runes = []rune(word) {
			cut := n - len(indent)
			lines, word = append(lines, indent+string(runes[:cut])), string(runes[cut:])
		}
		current = strings.TrimPrefix(current+" "+word, " ")
	}
	return append(lines, indent+current)
}
