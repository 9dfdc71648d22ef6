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

var (
	call   = regexp.MustCompile(`^\d+ +[\d.]+ (\w+)\(\d+<([^>]*)>`)
	result = regexp.MustCompile(`= (\d+)$`)
)

// replySize separates the reply to an activation, which carries certificates, from handshake records, in bytes.
const replySize = 3000

// checkOrder walks the system calls: a reply must not leave while a written record is not synced.
func checkOrder(t *testing.T, trace string) (replies int) {
	dirty, pending := false, false // pending: a record was written since the last reply
	for l := range strings.Lines(trace) {
		m := call.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		name, target := m[1], m[2]
		journal := strings.HasSuffix(target, "/sealed_data")
		switch {
		case journal && strings.Contains(name, "write"):
			dirty, pending = true, true
		case journal: // fsync, fdatasync
			dirty = false
		case strings.HasPrefix(target, "TCP") || strings.HasPrefix(target, "socket"):
			r := result.FindStringSubmatch(strings.TrimSpace(l))
			if r == nil {
				continue
			}
			if n, _ := strconv.Atoi(r[1]); n < replySize || !pending {
				continue
			}
			replies++
			pending = false
			if dirty {
				t.Errorf("a reply left before the journal was synced: %s", l)
			}
		}
	}
	return replies
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
