// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/marblerun/marblerun/internal/server/listen"
)

func dialTLS(t *testing.T, addr string, protocols ...string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// pipes is a net.Listener over net.Pipe, so that time can be simulated.
type pipes struct {
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

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

// inSimulatedTime serves the API over the fake and hands out TLS connections to it.
func inSimulatedTime(t *testing.T, f *fake, test func(t *testing.T, dial func(protocol string) *tls.Conn)) {
	cert := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		server := New(Config{Coordinator: f, Log: log}).Server(log, slog.LevelDebug)
		in := &pipes{in: make(chan net.Conn), done: make(chan struct{})}
		l := listen.New(in, listen.Config{TLS: listen.ClientAPI(func() *tls.Certificate { return &cert })})
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		var conns []*tls.Conn
		test(t, func(protocol string) *tls.Conn {
			client, remote := net.Pipe()
			in.in <- remote
			c := tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			return c
		})
		for _, c := range conns {
			_ = c.Close()
		}
		_ = server.Close()
		<-served
	})
}

// reply reads until the server hangs up and returns what it said and how long that took.
func reply(c net.Conn) (string, time.Duration) {
	start := time.Now()
	data, _ := io.ReadAll(c)
	return string(data), time.Since(start)
}

func TestHalfSentHeaders(t *testing.T) {
	inSimulatedTime(t, &fake{}, func(t *testing.T, dial func(string) *tls.Conn) {
		c := dial("http/1.1")
		if _, err := io.WriteString(c, "GET /status HTTP/1.1\r\nHo"); err != nil {
			t.Fatal(err)
		}
		if said, took := reply(c); took > 11*time.Second {
			t.Errorf("hung up after %v, saying %q", took, said)
		}
	})
}

func TestIdleConnections(t *testing.T) {
	inSimulatedTime(t, &fake{}, func(t *testing.T, dial func(string) *tls.Conn) {
		c := dial("http/1.1")
		if _, err := io.WriteString(c, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if said, took := reply(c); !strings.Contains(said, "200 OK") || took < time.Minute || took > 3*time.Minute {
			t.Errorf("hung up after %v, saying %q", took, said)
		}
	})
}

func TestHalfSentBodies(t *testing.T) {
	inSimulatedTime(t, &fake{}, func(t *testing.T, dial func(string) *tls.Conn) {
		c := dial("http/1.1")
		if _, err := io.WriteString(c, "POST /manifest HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		said, took := reply(c)
		if !strings.Contains(said, " 400 ") || !strings.Contains(said, "the body arrived too slowly") {
			t.Errorf("said %q", said)
		}
		if took > 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A body that nobody reads does not keep the connection busy either.
func TestHalfSentBodiesThatNobodyReads(t *testing.T) {
	inSimulatedTime(t, &fake{}, func(t *testing.T, dial func(string) *tls.Conn) {
		c := dial("http/1.1")
		if _, err := io.WriteString(c, "GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		if said, took := reply(c); took > 20*time.Second {
			t.Errorf("took %v, said %q", took, said)
		}
	})
}

// Slow is allowed down to minRate: 1 MiB in 14 seconds is fine, in three minutes it is not.
func TestTricklingBodies(t *testing.T) {
	for pause, want := range map[time.Duration]string{200 * time.Millisecond: "200 OK", 3 * time.Second: "400 Bad Request"} {
		inSimulatedTime(t, &fake{}, func(t *testing.T, dial func(string) *tls.Conn) {
			c := dial("http/1.1")
			var sender sync.WaitGroup
			sender.Go(func() {
				_, _ = io.WriteString(c, "POST /manifest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048576\r\n\r\n")
				for range 64 {
					if _, err := c.Write(make([]byte, 16<<10)); err != nil {
						return
					}
					time.Sleep(pause)
				}
			})
			status, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || !strings.Contains(status, want) {
				t.Errorf("pause %v: %q, %v", pause, status, err)
			}
			_ = c.Close()
			sender.Wait()
		})
	}
}

// Work in the Coordinator may take longer than any deadline for the client: key generation takes minutes.
func TestSlowWorkIsAnswered(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		var canceled error
		f := &fake{work: func(ctx context.Context) {
			time.Sleep(9 * time.Minute)
			canceled = ctx.Err()
		}}
		inSimulatedTime(t, f, func(t *testing.T, dial func(string) *tls.Conn) {
			transport := &http.Transport{
				DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return dial(protocol), nil },
			}
			transport.Protocols = new(http.Protocols)
			transport.Protocols.SetHTTP1(protocol != "h2")
			transport.Protocols.SetHTTP2(protocol == "h2")
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Post("https://x/manifest", "", strings.NewReader("{}"))
			if err != nil {
				t.Fatalf("%s: %v", protocol, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
				t.Errorf("%s: %d, %v", protocol, resp.StatusCode, err)
			}
			_ = resp.Body.Close()
		})
		if canceled != nil {
			t.Errorf("%s: the request's context: %v", protocol, canceled)
		}
	}
}

// Whoever does not read the reply loses the connection, and the Coordinator is not kept busy.
func TestSlowReaders(t *testing.T) {
	f := &fake{}
	for i := range 100_000 {
		f.log = append(f.log, fmt.Sprint("line ", i))
	}
	inSimulatedTime(t, f, func(t *testing.T, dial func(string) *tls.Conn) {
		c := dial("http/1.1")
		if _, err := io.WriteString(c, "GET /api/v2/update HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if said, _ := reply(c); strings.HasSuffix(said, "0\r\n\r\n") {
			t.Errorf("the reply waited for its reader: %d bytes", len(said))
		}
	})
}

// refusedStream sends a part of a body that nobody wants, and then the names of the frames that the server sends.
func refusedStream(t *testing.T, c net.Conn, frames chan<- string) {
	t.Helper()
	framer := http2.NewFramer(c, c)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/nothing"}, {":authority", "x"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		defer close(frames)
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if f.Header().StreamID == 1 {
				frames <- f.Header().Type.String()
			}
		}
	}()
	_, err := io.WriteString(c, http2.ClientPreface)
	for _, err := range []error{
		err, framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		framer.WriteData(1, false, make([]byte, 100)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// curl forgets a reply that it finds together with the end of its stream.
func TestRefusalsAreReadBeforeTheStreamEnds(t *testing.T) {
	inSimulatedTime(t, &fake{}, func(t *testing.T, dial func(string) *tls.Conn) {
		frames := make(chan string, 10)
		refusedStream(t, dial("h2"), frames)
		synctest.Wait()
		if got := received(frames); got != "HEADERS DATA" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(2 * lingerTime)
		synctest.Wait()
		if got := received(frames); got != "DATA RST_STREAM" {
			t.Errorf("later: %s", got)
		}
	})
}

// received is what is in the channel now.
func received(frames <-chan string) string {
	var got []string
	for len(frames) > 0 {
		got = append(got, <-frames)
	}
	return strings.Join(got, " ")
}
