// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
)

// ReachHint is the advice for an error of a Coordinator that cannot be reached; empty: it was, or it is about something
// else, such as a service with collateral.
func ReachHint(err error) string {
	var request *url.Error
	if !errors.As(err, &request) || !strings.Contains(request.URL, "/api/v2/") {
		return ""
	}
	var dns *net.DNSError
	switch text := err.Error(); {
	case strings.Contains(text, "connection refused"), strings.Contains(text, "actively refused"):
		return "Nothing listens there. Is the Coordinator running? On Kubernetes it takes a port-forward: " +
			"kubectl -n marblerun port-forward svc/coordinator-client-api 4433:4433 --address localhost"
	case errors.As(err, &dns):
		return "This name is unknown here. The argument is the HOST:PORT of the Coordinator's client API."
	case errors.Is(err, io.EOF):
		return "The connection was closed without an answer. A port-forward ends when its Pod is replaced: start it again."
	case errors.Is(err, context.DeadlineExceeded):
		return "Nothing answers there. Is there a firewall in between, or is it the wrong address?"
	}
	return ""
}
