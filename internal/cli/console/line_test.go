// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package console_test

import (
	"bytes"
	"testing"

	"github.com/marblerun/marblerun/internal/cli/console"
)

func show(c *console.Console) {
	line := c.Line()
	line.Set("one")
	line.Set("one")
	line.Set("a stranger\nsays \x1b[2J")
	line.Set("long long text")
	line.Clear()
	line.Clear()
}

func TestLine(t *testing.T) {
	var err, terminal bytes.Buffer
	show(&console.Console{Err: console.Filter(&err)})
	if want := "one\na stranger says \\x1b[2J\nlong long text\n"; err.String() != want {
		t.Errorf("got %q", err.String())
	}
	err.Reset()
	show(&console.Console{Err: &err, Live: &console.Terminal{Out: &terminal, Width: func() int { return 10 }}})
	const start = "\r\x1b[K"
	if want := start + "one" + start + "a strang…" + start + "long lon…" + start; terminal.String() != want ||
		err.Len() > 0 {
		t.Errorf("got %q, %q", terminal.String(), err.String())
	}
}
