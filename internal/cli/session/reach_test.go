// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/cli/session"
)

func TestReachHint(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, refused := net.Dial("tcp", listener.Addr().String())
	asking := func(err error) error {
		return fmt.Errorf("asking: %w", &url.Error{Op: "Get", URL: "https://localhost:4433/api/v2/status", Err: err})
	}
	for name, test := range map[string]struct {
		err  error
		hint string
	}{
		"refused":  {asking(refused), "port-forward"},
		"name":     {asking(&net.DNSError{Err: "no such host", Name: "x"}), "unknown"},
		"closed":   {asking(io.EOF), "port-forward ends"},
		"deadline": {asking(context.DeadlineExceeded), "firewall"},
		"PCCS":     {&url.Error{Op: "Get", URL: "https://pccs:8081/sgx/certification/v4/tcb", Err: refused}, ""},
		"other":    {errors.New("500 Internal Server Error"), ""},
	} {
		hint := session.ReachHint(test.err)
		if (hint == "") != (test.hint == "") || !strings.Contains(hint, test.hint) {
			t.Errorf("%s: %q", name, hint)
		}
	}
}
