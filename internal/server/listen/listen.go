// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package listen accepts connections from strangers without letting them hurt: the same listener stands before the
// client API, the Marble API and the metrics.
//
// A connection first takes one of a bounded number of places; without a free one it waits in the operating system's
// accept queue. With TLS it then takes one of a smaller number of places for handshakes and must finish its handshake
// within a deadline. Accept returns only connections whose handshake is done, as *tls.Conn.
//
// Invariants:
//
//   - At most Limits.Connections connections are open and at most Limits.Handshakes of them are in their handshake.
//   - Whoever holds a place and lets us wait loses it when others want it: a handshake after Limits.HandshakeGrace, a
//     connection after Limits.IdleGrace without a byte in either direction. Our own slowness costs nobody a place.
//   - Nothing here decides who somebody is: client certificates are passed on as presented.
package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Limits bound what strangers can hold. The zero value of a field means its default.
type Limits struct {
	// Connections open at once; default 2048.
	Connections int
	// IdleGrace is how long a connection may be silent before it makes room for a new one, when all places are taken;
	// default 30 s.
	IdleGrace time.Duration
	// Handshakes in flight; default 256.
	Handshakes int
	// HandshakeTimeout ends a handshake; default 10 s.
	HandshakeTimeout time.Duration
	// HandshakeGrace is how long a handshake may let us wait when all places for handshakes are taken; default 2 s.
	HandshakeGrace time.Duration
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Connections, 2048)
	setDefault(&l.IdleGrace, 30*time.Second)
	setDefault(&l.Handshakes, 256)
	setDefault(&l.HandshakeTimeout, 10*time.Second)
	setDefault(&l.HandshakeGrace, 2*time.Second)
	return l
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Config of a Listener.
type Config struct {
	// TLS is nil for plain connections.
	TLS    *tls.Config
	Limits Limits
	// Failed is told about handshakes that did not succeed; nil ignores them. It runs in many goroutines at once.
	Failed func(remote net.Addr, err error)
}

// Listener is a net.Listener whose connections have finished their TLS handshake.
type Listener struct {
	inner      net.Listener
	cfg        Config
	conns      *Turnstile
	handshakes *Turnstile

	ready chan net.Conn
	done  chan struct{}
	close sync.Once
	err   error // why accepting ended; written before done is closed
}

// New accepts from inner until Close. It owns inner from now on.
func New(inner net.Listener, cfg Config) *Listener {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Failed == nil {
		cfg.Failed = func(net.Addr, error) {}
	}
	l := &Listener{
		inner: inner, cfg: cfg,
		conns:      NewTurnstile(cfg.Limits.Connections, cfg.Limits.IdleGrace),
		handshakes: NewTurnstile(cfg.Limits.Handshakes, cfg.Limits.HandshakeGrace),
		ready:      make(chan net.Conn), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// Accept returns the next connection, after its handshake.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, l.err
	}
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting and ends the handshakes in flight. Accepted connections live on.
func (l *Listener) Close() error {
	return l.end(net.ErrClosed)
}

func (l *Listener) end(reason error) (err error) {
	l.close.Do(func() {
		l.err = reason
		close(l.done)
		err = l.inner.Close()
		l.handshakes.sendAllAway()
	})
	return err
}

func (l *Listener) run() {
	var pause time.Duration
	for {
		raw, err := l.inner.Accept()
		if err != nil {
			if !isPassing(err) {
				_ = l.end(err) // the reason goes to Accept
				return
			}
			// Out of file descriptors: wait until connections have ended.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		l.admit(raw)
	}
}

func isPassing(err error) bool {
	var temporary interface{ Temporary() bool }
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &temporary) && temporary.Temporary()
}

// admit waits for the connection's places; meanwhile nobody else is accepted.
func (l *Listener) admit(raw net.Conn) {
	c := &conn{Conn: raw}
	c.pass = l.conns.NewPass(func() { _ = raw.Close() })
	if !l.conns.Enter(l.done, c.pass) {
		_ = raw.Close()
		return
	}
	if l.cfg.TLS == nil {
		go l.deliver(c)
		return
	}
	c.shaking = l.handshakes.NewPass(func() { _ = raw.Close() })
	if !l.handshakes.Enter(l.done, c.shaking) {
		_ = c.Close()
		return
	}
	go l.shakeHands(c)
}

func (l *Listener) deliver(c net.Conn) {
	select {
	case l.ready <- c:
	case <-l.done:
		_ = c.Close()
	}
}

func (l *Listener) shakeHands(c *conn) {
	secure := tls.Server(c, l.cfg.TLS)
	err := c.SetDeadline(time.Now().Add(l.cfg.Limits.HandshakeTimeout))
	if err == nil {
		err = secure.Handshake()
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	c.shaking.Leave()
	c.shaking = nil
	if err != nil {
		answerPlainHTTP(err)
		l.cfg.Failed(c.RemoteAddr(), err)
		hangUp(c)
		return
	}
	l.deliver(secure)
}

// answerPlainHTTP tells a client that speaks HTTP without TLS what is wrong, as net/http does.
func answerPlainHTTP(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
}

// hangUp closes such that the peer can read the alert: closing with unread bytes would reset the connection, and the peer
// would see only that.
func hangUp(c *conn) {
	defer c.Close()
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(500*time.Millisecond)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, 64<<10)
}

// conn keeps its place until it is closed. It waits for its peer while somebody reads from it and nothing is written.
type conn struct {
	net.Conn
	pass *Pass
	// shaking is the pass of the handshake; nil afterwards. Only the handshake's goroutine uses the conn until then.
	shaking *Pass
}

func (c *conn) Read(b []byte) (int, error) {
	c.pass.Wait()
	if c.shaking != nil {
		c.shaking.Wait()
		defer c.shaking.Busy()
	}
	n, err := c.Conn.Read(b)
	c.pass.Busy()
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.pass.Touch()
	return n, err
}

func (c *conn) Close() error {
	c.pass.Leave()
	return c.Conn.Close()
}
