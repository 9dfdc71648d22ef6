// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a net.Listener over net.Pipe, so that time can be simulated.
type pipes struct {
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

func newPipes() *pipes { return &pipes{in: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.in:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	go func() {
		select {
		case p.in <- server:
		case <-p.done:
			_ = server.Close()
		}
	}()
	return client
}

// untilClosed reads until the other side hangs up and returns how long that took.
func untilClosed(c net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(start)
}

// acceptAll keeps accepted connections open, echoing, and closes them with the test.
func acceptAll(l *Listener) (closeAll func()) {
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

func TestAHandshakeMustFinishInTime(t *testing.T) {
	cert := newCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		in := newPipes()
		failed := make(chan error, 1)
		l := New(in, Config{
			TLS:    ClientAPI(func() *tls.Certificate { return cert }),
			Failed: func(_ net.Addr, err error) { failed <- err },
		})
		silent := in.dial()
		defer silent.Close()
		if d := untilClosed(silent); d != 10*time.Second {
			t.Errorf("hung up after %v, want 10s", d)
		}
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("failure reported as %v", err)
		}
		_ = l.Close()
	})
}

func TestSilentHandshakesMakeRoom(t *testing.T) {
	cert := newCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		in := newPipes()
		l := New(in, Config{
			TLS: ClientAPI(func() *tls.Certificate { return cert }),
			// The timeout is out of the way: only being sent away explains what follows.
			Limits: Limits{Handshakes: 3, HandshakeTimeout: time.Hour},
		})
		closeAll := acceptAll(l)
		var silent []net.Conn
		for range 3 {
			silent = append(silent, in.dial())
			synctest.Wait()
		}
		start := time.Now()
		honest := tls.Client(in.dial(), &tls.Config{InsecureSkipVerify: true})
		if err := honest.Handshake(); err != nil {
			t.Fatalf("honest client: %v", err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("honest client waited %v, want the grace of 2s", d)
		}
		synctest.Wait()
		if n := l.handshakes.Held(); n != 2 {
			t.Errorf("%d handshakes in flight, want the 2 other silent ones", n)
		}
		_ = l.Close() // ends the handshakes
		for _, c := range silent {
			untilClosed(c)
		}
		closeAll()
	})
}

func TestQuietConnectionsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newPipes()
		l := New(in, Config{Limits: Limits{Connections: 2}})
		closeAll := acceptAll(l)
		quiet, busy := in.dial(), in.dial()
		echo(t, quiet)
		time.Sleep(29 * time.Second)
		echo(t, busy)
		third := in.dial()
		start := time.Now()
		echo(t, third) // succeeds only once it is accepted
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v, want 1s: until the quiet one has been quiet for 30s", d)
		}
		untilClosed(quiet)
		echo(t, busy)
		_ = l.Close()
		closeAll()
	})
}

func echo(t *testing.T, c net.Conn) {
	t.Helper()
	b := []byte{7}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
}

func TestClosedConnectionsGiveTheirPlacesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newPipes()
		l := New(in, Config{Limits: Limits{Connections: 1}})
		for range 5 {
			client := in.dial()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = server.Close()
			_ = server.Close() // twice gives back one place only
			untilClosed(client)
		}
		if n := l.conns.Held(); n != 0 {
			t.Errorf("%d places taken", n)
		}
		_ = l.Close()
	})
}

func TestCloseEndsAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(newPipes(), Config{})
		go func() { _ = l.Close() }()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	})
}

// flaky fails like a process that is out of file descriptors.
type flaky struct {
	*pipes
	failures int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, tooManyFiles{}
	}
	return f.pipes.Accept()
}

type tooManyFiles struct{}

func (tooManyFiles) Error() string   { return "too many open files" }
func (tooManyFiles) Temporary() bool { return true }

func TestPassingAcceptErrorsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &flaky{pipes: newPipes(), failures: 20}
		l := New(in, Config{})
		client := in.dial()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = server.Close()
		_ = client.Close()
		_ = l.Close()
	})
}

func TestPlainHTTPGetsAnAnswer(t *testing.T) {
	l := serve(t, ClientAPI(fixed(newCertificate(t))))
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(c)
	if !strings.Contains(string(answer), "Client sent an HTTP request to an HTTPS server.") {
		t.Errorf("got %q", answer)
	}
}
