// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package docs executes the Kubernetes guides on a real cluster, so that they cannot rot: every page of
// docs/howto/kubernetes, and the deployment guide that this project exists to make true (../shared/seed).
//
// What a page can say, in the info string of a fence:
//
//	```bash                         executed, in order, in one bash session per page, from the root of the checkout
//	```bash no-e2e="needs AKS"      shown, not executed; the report names the reason
//	```bash needs="nginx"           executed if these programs are there, else skipped visibly
//	```bash needs-image="busybox"   executed if the cluster's nodes have these images, else skipped visibly
//	```output                       what the bash block before it prints: these lines must be in it, in that order; …
//	                                stands for anything, white space for any other
//
// Other fences are text. Blocks are executed verbatim but for one table, [Substitutions]. A page fails at the first
// command that fails. Tests skip unless MARBLERUN_E2E=1; they need the environment of `make e2e`, see test/e2e/run, and
// a cluster of their own: they delete the namespaces that the guides name.
package docs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Block is one fenced block of a page.
type Block struct {
	// Line is that of its opening fence, from 1.
	Line int
	// Lang is the first word of the info string.
	Lang string
	// NoE2E, if not empty, says why the block is not executed.
	NoE2E string
	// Needs and NeedsImage are programs and images without which it is skipped.
	Needs, NeedsImage []string
	// Text is what is between the fences, without their indentation.
	Text string
	// Output has the lines that the block must print.
	Output []string
}

var (
	fence     = regexp.MustCompile("^( *)(`{3,})(.*)$")
	attribute = regexp.MustCompile(`^ *([a-z0-9-]+)="([^"]*)"`)
)

// Parse returns the fenced blocks of a page, in order, with output blocks folded into the bash blocks before them.
func Parse(page string) ([]Block, error) {
	if !utf8.ValidString(page) {
		return nil, errors.New("the page is not UTF-8")
	}
	var blocks []Block
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		open := fence.FindStringSubmatch(lines[i])
		if open == nil {
			continue
		}
		b, err := newBlock(i+1, open[3])
		if err != nil {
			return nil, err
		}
		end := slices.IndexFunc(lines[i+1:], func(l string) bool { return strings.TrimSpace(l) == open[2] })
		if end < 0 {
			return nil, fmt.Errorf("line %d: the block is not closed", i+1)
		}
		b.Text = dedent(lines[i+1:i+1+end], open[1])
		i += end + 1
		if blocks, err = add(blocks, b); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

func newBlock(line int, info string) (Block, error) {
	b := Block{Line: line}
	var rest string
	b.Lang, rest, _ = strings.Cut(strings.TrimSpace(info), " ")
	for rest != "" {
		a := attribute.FindStringSubmatch(rest)
		if a == nil || b.Lang != "bash" || a[2] == "" {
			return b, fmt.Errorf("line %d: cannot understand %q in the info string", line, rest)
		}
		switch a[1] {
		case "no-e2e":
			b.NoE2E = a[2]
		case "needs":
			b.Needs = strings.Fields(a[2])
		case "needs-image":
			b.NeedsImage = strings.Fields(a[2])
		default:
			return b, fmt.Errorf("line %d: unknown attribute %q", line, a[1])
		}
		rest = rest[len(a[0]):]
	}
	return b, nil
}

func dedent(lines []string, indent string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimPrefix(l, indent) + "\n")
	}
	return b.String()
}

func add(blocks []Block, b Block) ([]Block, error) {
	if b.Lang != "output" {
		return append(blocks, b), nil
	}
	if len(blocks) == 0 || blocks[len(blocks)-1].Lang != "bash" || blocks[len(blocks)-1].Output != nil {
		return nil, fmt.Errorf("line %d: an output block must follow a bash block, one each", b.Line)
	}
	last := &blocks[len(blocks)-1]
	for l := range strings.Lines(b.Text) {
		if strings.TrimSpace(l) != "" {
			last.Output = append(last.Output, strings.TrimSpace(l))
		}
	}
	if last.Output == nil {
		return nil, fmt.Errorf("line %d: an output block that expects nothing", b.Line)
	}
	return blocks, nil
}

// Missing returns the first line of the block's Output that printed does not have after those before it.
func (b Block) Missing(printed string) (line string, missing bool) {
	have := strings.Split(printed, "\n")
	for _, want := range b.Output {
		i := slices.IndexFunc(have, pattern(want).MatchString)
		if i < 0 {
			return want, true
		}
		have = have[i+1:]
	}
	return "", false
}

// pattern matches lines that contain want.
func pattern(want string) *regexp.Regexp {
	parts := strings.Split(want, "…")
	for i, p := range parts {
		words := strings.Fields(p)
		for j := range words {
			words[j] = regexp.QuoteMeta(words[j])
		}
		joined := strings.Join(words, `\s+`)
		if strings.HasPrefix(p, " ") {
			joined = `\s*` + joined
		}
		parts[i] = joined
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}

// Inline returns the code spans of a page that begin with prefix, such as commands within a sentence.
func Inline(page, prefix string) []string {
	var found []string
	for _, span := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(span[1], prefix) {
			found = append(found, span[1])
		}
	}
	return found
}
