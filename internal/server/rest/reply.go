// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/marblerun/marblerun/api/wire"
)

// envelope is wire.Response with its data still to be encoded, and the additive hint.
type envelope struct {
	Status  string `json:"status"`
	Data    any    `json:"data"`
	Message string `json:"message,omitempty"`
	// Hint says what to do about a failure.
	Hint string `json:"hint,omitempty"`
}

// stream is data that is written piece by piece: the JSON of the envelope's data.
type stream func(w io.Writer) error

// success answers 200 with the data.
func (c *call) success(rt *route, data any) {
	if s, ok := data.(stream); ok {
		c.stream(rt, s)
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.encode(http.StatusOK, envelope{Status: wire.StatusSuccess, Data: data})
}

// stream answers 200 with data that may be long. Nothing is sent before the first piece is there, so that an error until
// then is still a failure; after it the connection is cut.
func (c *call) stream(rt *route, s stream) {
	c.w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(paced{c}, 32<<10)
	write := func() error {
		if _, err := io.WriteString(out, `{"status":"success","data":`); err != nil {
			return err
		}
		if err := s(out); err != nil {
			return err
		}
		_, err := io.WriteString(out, "}\n")
		return err
	}
	err := write()
	switch {
	case err == nil:
		err = out.Flush()
	case c.w.code == 0:
		c.render(c.failure(rt, err))
		return
	}
	if err != nil {
		c.api.cfg.Log.DebugContext(c.ctx, "Reply cut off", "path", c.label, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// render answers with a failure (client-api.md §2).
func (c *call) render(f failure) {
	e := envelope{Status: wire.StatusError, Message: f.message, Data: f.data, Hint: f.hint}
	if f.fail {
		e.Status = wire.StatusFail
		c.w.Header().Set("Content-Type", "application/json")
	} else {
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		c.w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	c.encode(f.status, e)
}

// encode writes the envelope and a newline, with its length, so that the client knows where it ends before the stream
// does. An error means that the client went away.
func (c *call) encode(status int, e envelope) {
	var out bytes.Buffer
	err := json.NewEncoder(&out).Encode(e)
	if err == nil {
		c.writeBy(time.Now().Add(writeGrace))
		c.w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
		c.w.WriteHeader(status)
		_, err = out.WriteTo(c.w)
	}
	if err != nil {
		c.api.cfg.Log.DebugContext(c.ctx, "Reply not sent", "path", c.label, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// Writing a reply may take writeGrace, and a second more per minRate bytes already written.
const writeGrace = 30 * time.Second

// paced writes to the client within deadlines that move with progress.
type paced struct{ c *call }

func (p paced) Write(b []byte) (int, error) {
	p.c.writeBy(p.c.started.Add(writeGrace + timeFor(p.c.w.sent)))
	return p.c.w.Write(b)
}

func (c *call) writeBy(t time.Time) {
	_ = http.NewResponseController(c.w).SetWriteDeadline(t) // only a test's writer has none
}

// timeFor is how long n bytes take at minRate.
func timeFor(n int64) time.Duration { return time.Duration(n) * time.Second / minRate }

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	code int // 0 until the header is written
	sent int64
}

// WriteHeader remembers the first final status code.
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write counts.
func (r *recorder) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
