// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/test/harness"
)

// The process, traced: between the write of an activation's record and the reply on the socket there is a sync of the
// journal.
func TestSyncBetweenWriteAndReply(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIP: strace is not installed")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	c := harness.Start(t, harness.Options{Prefix: []string{
		strace, "-f", "-y", "-ttt", "-e", "trace=write,pwrite64,writev,fsync,fdatasync,sendto,sendmsg", "-s", "0", "-o", trace,
	}})
	c.MustSetManifest(manifest())
	id := harness.NewIdentity(t, "m")
	const activations = 5
	for range activations {
		if _, err := c.Activate(context.Background(), id, "m", "0f0e0d0c-0b0a-4908-8706-050403020100"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // so that replies and records pair up by time
	}
	c.Kill()
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	replies := checkOrder(t, string(data))
	if replies < activations {
		t.Errorf("found %d replies after records, want %d\n%s", replies, activations, tail(string(data), 4000))
	}
}

// A line is `PID TIME NAME(FD<TARGET>, ""..., SIZE…) = RESULT`, or its beginning with `<unfinished ...>` and later
// `PID TIME <... NAME resumed>) = RESULT`.
var (
	begun   = regexp.MustCompile(`^(\d+) +[\d.]+ (\w+)\(\d+<([^>]*)>(?:, ""\.\.\., (\d+))?`)
	resumed = regexp.MustCompile(`^(\d+) +[\d.]+ <\.\.\. \w+ resumed>`)
)

// replySize separates the reply to an activation, which carries certificates, from handshake records, in bytes.
const replySize = 3000

// order follows the journal and the replies through a trace.
type order struct {
	t       *testing.T
	dirty   bool // a record is written and not yet synced
	pending bool // a record was written since the last reply
	replies int
	syncing map[string]bool // by thread
}

// checkOrder walks the system calls: a reply must not leave while a written record is not synced.
func checkOrder(t *testing.T, trace string) (replies int) {
	o := order{t: t, syncing: map[string]bool{}}
	for l := range strings.Lines(trace) {
		o.line(strings.TrimSpace(l))
	}
	return o.replies
}

func (o *order) line(l string) {
	if m := resumed.FindStringSubmatch(l); m != nil {
		if o.syncing[m[1]] {
			o.dirty, o.syncing[m[1]] = false, false
		}
		return
	}
	m := begun.FindStringSubmatch(l)
	if m == nil {
		return
	}
	thread, name, target := m[1], m[2], m[3]
	size, _ := strconv.Atoi(m[4])
	switch {
	case strings.HasSuffix(target, "/sealed_data") && strings.Contains(name, "write"):
		o.dirty, o.pending = true, true
	case strings.HasSuffix(target, "/sealed_data") && strings.HasSuffix(l, "<unfinished ...>"):
		o.syncing[thread] = true
	case strings.HasSuffix(target, "/sealed_data"):
		o.dirty = false
	case (strings.HasPrefix(target, "TCP") || strings.HasPrefix(target, "socket")) && size >= replySize && o.pending:
		o.replies++
		o.pending = false
		if o.dirty {
			o.t.Errorf("a reply left before the journal was synced: %s", l)
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
