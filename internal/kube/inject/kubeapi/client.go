// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package kubeapi is a small client of the Kubernetes API server: it reads and changes one Secret and one
// MutatingWebhookConfiguration, which is all that the injector needs to look after its certificate. A client library
// for all of Kubernetes would be larger than the rest of the program.
//
// Invariants:
//
//   - Every change names the resource version that it is based on, so a change by somebody else in between is never
//     overwritten: the API server answers ErrConflict, and the caller reads again.
//   - Answers are bounded, requests have a deadline, redirects are not followed. The token goes to the API server only,
//     and into no error.
package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Reasons of the API server that callers act upon.
var (
	// ErrConflict: the object has changed, or was created, since it was read. Read it again.
	ErrConflict = errors.New("conflict")
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: the service account lacks a permission.
	ErrForbidden = errors.New("forbidden")
)

const (
	// timeout of one request.
	timeout = 10 * time.Second
	// maxAnswer in bytes; the API server stores no object of more than about 1.5 MiB.
	maxAnswer = 4 << 20

	typeJSON       = "application/json"
	typeMergePatch = "application/merge-patch+json" // RFC 7386
	typeJSONPatch  = "application/json-patch+json"  // RFC 6902

	// manager names us in the objects' managedFields.
	manager = "marble-injector"
)

// Client talks to one API server.
type Client struct {
	base  string
	http  http.Client
	token func() (string, error)
}

// New returns a client of the API server at base, e.g. https://10.0.0.1:443. token is asked at every request, because
// tokens of service accounts are replaced about once an hour.
func New(base string, transport http.RoundTripper, token func() (string, error)) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), token: token, http: http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// call sends body, unless it is nil, and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path, contentType string, body, out any) error {
	if err := c.try(ctx, method, path, contentType, body, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) try(ctx context.Context, method, path, contentType string, body, out any) error {
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, sent)
	if err != nil {
		return err
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", typeJSON)
	r.Header.Set("User-Agent", manager)
	if body != nil {
		r.Header.Set("Content-Type", contentType)
	}
	return c.exchange(r, out)
}

func (c *Client) exchange(r *http.Request, out any) (err error) {
	answer, err := c.http.Do(r)
	if err != nil {
		return withoutURL(err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return refusal(answer.StatusCode, body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// withoutURL drops what call says anyway.
func withoutURL(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// refusal makes an error of an answer that is no success: usually a meta/v1 Status.
func refusal(code int, body []byte) error {
	var status struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &status) != nil || status.Message == "" {
		status.Message = http.StatusText(code)
	}
	err := fmt.Errorf("HTTP %d: %.500s", code, status.Message)
	switch code {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	case http.StatusConflict:
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}
