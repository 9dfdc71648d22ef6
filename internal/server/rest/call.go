// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/logging"
)

// call is one request on its way.
type call struct {
	api     *API
	w       *recorder
	r       *http.Request
	ctx     context.Context
	id      string
	label   string // the path if it is one of ours, else ""
	started time.Time
	counted func(method string, code int, received, sent int64, took time.Duration)
	// received: the body has been read to its end.
	received bool
	// cleanup runs at the end, last first.
	cleanup []func()
}

func (a *API) begin(w http.ResponseWriter, r *http.Request, label string) *call {
	id := logging.NewRequestID()
	c := &call{
		api: a, w: &recorder{ResponseWriter: w}, r: r, id: id, label: label, started: time.Now(),
		ctx: coordinator.WithRequestID(logging.WithRequestID(r.Context(), id), id),
	}
	if a.cfg.Observer != nil {
		c.counted = a.cfg.Observer.Request(label)
	}
	w.Header().Set("X-Request-Id", id)
	c.readBy(time.Time{}) // work takes its time; reading the body sets its own deadlines
	return c
}

// end runs deferred: it also ends the request after a panic.
func (c *call) end() {
	p := recover()
	begun := c.w.code != 0 // the reply
	for i := len(c.cleanup) - 1; i >= 0; i-- {
		c.cleanup[i]()
	}
	if p != nil && p != http.ErrAbortHandler {
		c.panicked(p)
	}
	if c.counted != nil {
		c.counted(c.r.Method, c.w.code, requestSize(c.r), c.w.sent, time.Since(c.started))
	}
	c.api.cfg.Log.DebugContext(c.ctx, "Request", "method", c.r.Method, "path", c.label, "code", c.w.code,
		"took", time.Since(c.started))
	if p == nil {
		c.linger()
	}
	// What the client has not sent yet is thrown away by net/http before the next request; that must end.
	c.readBy(time.Now().Add(5 * time.Second))
	if p == http.ErrAbortHandler || p != nil && begun {
		panic(http.ErrAbortHandler) // cuts the connection
	}
}

// panicked logs where it happened and answers 500 if nothing was answered. The value itself may hold anything, so only
// that of a runtime error is shown.
func (c *call) panicked(p any) {
	what := fmt.Sprintf("%T", p)
	var re runtime.Error
	if e, ok := p.(error); ok && errors.As(e, &re) {
		what = re.Error()
	}
	c.api.cfg.Log.ErrorContext(c.ctx, "Panic in a request of the client API", "path", c.label, "panic", what,
		"stack", string(debug.Stack()))
	if c.w.code == 0 {
		c.render(failure{
			status:  http.StatusInternalServerError,
			message: fmt.Sprintf("internal error, see the Coordinator's log (request %s)", c.id),
		})
	}
}

// How long, and for how many bytes, a refused HTTP/2 request is still listened to.
const (
	lingerTime  = 100 * time.Millisecond
	lingerBytes = 1 << 20
)

// linger gives a client that is still sending time to read why it was refused. Without that, HTTP/2 resets the stream
// right behind the reply, and curl forgets a reply that it finds together with the reset. HTTP/1 lingers by itself.
func (c *call) linger() {
	if c.r.ProtoMajor != 2 || c.w.code < http.StatusBadRequest || c.received || c.r.ContentLength == 0 {
		return
	}
	if http.NewResponseController(c.w).Flush() != nil {
		return
	}
	c.readBy(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(c.r.Body, lingerBytes)) // ends with the client's reset, most likely
}

func (c *call) serve(rt *route) {
	if rt.successor != "" {
		c.api.cfg.Log.InfoContext(c.ctx, "Usage of deprecated API endpoint. Consider using "+rt.successor+" instead",
			"path", c.label)
	}
	data, err := rt.handle(c)
	if err != nil {
		c.render(c.failure(rt, err))
		return
	}
	c.success(rt, data)
}

// user authenticates the caller. The context says by which certificate, since the manifest may change before the
// request's body is there.
func (c *call) user() (string, error) {
	certs := c.certificates()
	name, err := c.api.cfg.Coordinator.Authenticate(certs)
	if err == nil && len(certs) > 0 {
		c.ctx = coordinator.WithUserCertificate(c.ctx, certs[0])
	}
	return name, err
}

func (c *call) certificates() []*x509.Certificate {
	if c.r.TLS == nil {
		return nil
	}
	return c.r.TLS.PeerCertificates
}

// enter passes a gate; the place is given back at the end of the call.
func (c *call) enter(g *gate) error {
	leave, err := g.enter(c.ctx)
	if err == nil {
		c.cleanup = append(c.cleanup, leave)
	}
	return err
}

func (c *call) readBy(t time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(t) // only a test's writer has none
}

// requestSize approximates the request's size on the wire, as the reference's metrics do.
func requestSize(r *http.Request) int64 {
	n := len(r.Method) + len(r.URL.String()) + len(r.Proto) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return int64(n) + max(r.ContentLength, 0)
}
