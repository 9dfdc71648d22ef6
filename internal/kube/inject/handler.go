// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"time"
)

// Observer is told about every review that was answered.
type Observer interface {
	Reviewed(outcome Outcome, warnings int, took time.Duration)
}

// Handler answers POST /mutate and /healthz.
type Handler struct {
	injector *Injector
	log      *slog.Logger
	observer Observer
	now      func() time.Time
	bodies   bodies
}

// NewHandler returns a handler; now is the clock by which durations are measured.
func NewHandler(injector *Injector, log *slog.Logger, observer Observer, now func() time.Time) *Handler {
	return &Handler{injector: injector, log: log, observer: observer, now: now}
}

// ServeHTTP answers a request. Refusals of Pods are 200, as the API server wants it; other statuses mean that there was
// nothing to decide on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
	case "/mutate":
		h.mutate(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (h *Handler) mutate(w http.ResponseWriter, r *http.Request) {
	start := h.now()
	out, decision, err := h.review(r)
	h.observer.Reviewed(decision.Outcome, len(decision.Warnings), h.now().Sub(start))
	if err != nil {
		h.log.Warn("Cannot decide about a request", "error", err)
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // the API server went away: it decides by itself what to do without an answer
}

// errUndecided is that of a request which was read, but is no review of a Pod. contract/injector.md §2: status 500.
var errUndecided = errors.New("unable to mutate request")

func statusOf(err error) int {
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, errUndecided):
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// review returns the answer. On an error the decision is that there is none: Malformed.
func (h *Handler) review(r *http.Request) ([]byte, Decision, error) {
	malformed := Decision{Outcome: Malformed}
	if r.Method != http.MethodPost {
		return nil, malformed, errors.New("unable to handle requests other than POST")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, malformed, errors.New("wrong application type")
	}
	body, release, err := h.bodies.read(r)
	defer release()
	if err != nil {
		return nil, malformed, err
	}
	out, decision, err := h.decide(body)
	if err != nil {
		return nil, malformed, fmt.Errorf("%w: %w", errUndecided, err)
	}
	return out, decision, nil
}

func (h *Handler) decide(body []byte) ([]byte, Decision, error) {
	review, err := readReview(body)
	if err != nil {
		return nil, Decision{}, err
	}
	q := review.Request
	decision, err := h.injector.Review(Request{UID: q.UID, Namespace: q.Namespace, Operation: q.Operation,
		SubResource: q.SubResource, DryRun: q.DryRun, Object: q.Object})
	if err != nil {
		return nil, Decision{}, err
	}
	h.log.Info("Reviewed a pod", "outcome", decision.Outcome, "uid", q.UID, "namespace", q.Namespace, "name", q.Name,
		"message", decision.Message, "warnings", decision.Warnings, "dryRun", q.DryRun)
	out, err := review.answer(decision)
	return out, decision, err
}
