// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/marblerun/marblerun/api/wire"
)

const (
	v2          = "/api/v2"
	contentType = "application/json"
)

// call is one request. A nil body is a GET.
type call struct {
	path  string
	query url.Values
	body  []byte
	post  bool
	// limit on the reply, bytes; 0: replyLimit.
	limit int64
}

// reply is the data member of a successful reply and the connection that it came over.
type reply struct {
	data json.RawMessage
	tls  *tls.ConnectionState
}

// do sends one request and opens the envelope of the reply.
func (c *Client) do(ctx context.Context, k call) (reply, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	request, err := c.request(ctx, k)
	if err != nil {
		return reply{}, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := readLimited(response.Body, k.limit)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: reading the reply: %w", request.Method, request.URL, err)
	}
	data, err := open(response.StatusCode, body, request.Method, request.URL.String())
	return reply{data: data, tls: response.TLS}, err
}

func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || c.timeout < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

func (c *Client) request(ctx context.Context, k call) (*http.Request, error) {
	method := http.MethodGet
	if k.post {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, c.apiURL(k.path, k.query), bytes.NewReader(k.body))
	if err != nil {
		return nil, err
	}
	if k.post {
		request.Header.Set("Content-Type", contentType)
	}
	return request, nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	if limit == 0 {
		limit = replyLimit
	}
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrReplyTooLarge, limit)
	}
	return body, err
}

// open returns the data of a reply body. Only 200 is success; the body of anything else is read leniently, because what
// answers may be no Coordinator at all.
func open(code int, body []byte, method, address string) (json.RawMessage, error) {
	var envelope wire.Response
	err := json.Unmarshal(body, &envelope)
	if code != http.StatusOK {
		return nil, &RequestError{
			Method: method, URL: address, Code: code,
			Status: envelope.Status, Message: envelope.Message, Data: envelope.Data, Advice: envelope.Hint,
		}
	}
	if err != nil {
		return nil, WithHint(fmt.Errorf("%s %s: the reply is no JSON envelope: %w", method, address, err),
			"Is this the client API of a Coordinator?")
	}
	return envelope.Data, nil
}

// get returns the data of a GET, decoded.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return fetch[T](ctx, c, call{path: path, query: query})
}

// post sends body as JSON and returns the data of the reply, decoded.
func post[T any](ctx context.Context, c *Client, path string, body any) (T, error) {
	data, err := json.Marshal(body)
	if err != nil {
		var none T
		return none, err
	}
	return postRaw[T](ctx, c, path, data)
}

// postRaw sends body as it is.
func postRaw[T any](ctx context.Context, c *Client, path string, body []byte) (T, error) {
	return fetch[T](ctx, c, call{path: path, body: body, post: true})
}

func fetch[T any](ctx context.Context, c *Client, k call) (T, error) {
	var value T
	r, err := c.do(ctx, k)
	if err != nil {
		return value, err
	}
	return value, decode(k.path, r.data, &value)
}

// decode leaves value as it is if there is no data: replies of older Coordinators may be empty.
func decode(path string, data json.RawMessage, value any) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("%s: unexpected data in the reply: %w", path, err)
	}
	return nil
}

// either asks version 2 and, if the Coordinator does not know it, version 1.
func either[T any](version2, version1 func() (T, error)) (T, error) {
	value, err := version2()
	if isNotAllowed(err) {
		return version1()
	}
	return value, err
}
