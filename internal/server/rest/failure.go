// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/marblerun/marblerun/internal/coordinator"
)

// failure is a reply that is no success.
type failure struct {
	status int
	// fail: the client's fault, found before the core logic (client-api.md §2).
	fail    bool
	data    any
	message string
	hint    string
}

// failure turns an error into a reply. An error without a message for callers is only logged.
func (c *call) failure(rt *route, err error) failure {
	var e *coordinator.Error
	if !errors.As(err, &e) {
		e = c.unclassified(err)
	}
	f := failure{status: rt.status(e.Code), message: e.Message, hint: e.Hint}
	f.fail = rt.version == 2 && (f.status == http.StatusBadRequest || f.status == http.StatusUnauthorized)
	var d *detailed
	if errors.As(err, &d) {
		f.data = d.data
	}
	return f
}

func (c *call) unclassified(err error) *coordinator.Error {
	if c.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return refuse(coordinator.Unavailable, "the request was canceled")
	}
	c.api.cfg.Log.ErrorContext(c.ctx, "Request failed", "path", c.label, "error", err)
	return refuse(coordinator.Internal, "internal error, see the Coordinator's log (request %s)", c.id)
}

// status is client-api.md §5. Where the route does not say otherwise by refused, a code means the same everywhere.
func (rt *route) status(code coordinator.Code) int {
	if rt.refused == http.StatusNotFound { // GET update-manifest: any error
		return http.StatusNotFound
	}
	switch code {
	case coordinator.Unauthorized:
		return http.StatusUnauthorized
	case coordinator.BadRequest, coordinator.QuoteRefused:
		return http.StatusBadRequest
	case coordinator.FeatureDisabled:
		return http.StatusForbidden
	case coordinator.NoUpdate:
		return http.StatusNotFound
	case coordinator.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return rt.refused
	}
}

// detailed is an error whose failure has data.
type detailed struct {
	error
	data any
}

// Unwrap returns the error without its data.
func (d *detailed) Unwrap() error { return d.error }

func refuse(code coordinator.Code, format string, args ...any) *coordinator.Error {
	return &coordinator.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// badRequest is a client's fault in the form of the request.
func badRequest(format string, args ...any) *coordinator.Error {
	return refuse(coordinator.BadRequest, format, args...)
}
