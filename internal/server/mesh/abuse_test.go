// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/marblerun/marblerun/api/marblepb"
)

// raw is an HTTP/2 connection whose frames the test writes itself.
type raw struct {
	*tls.Conn
	*http2.Framer
}

func dialRaw(t *testing.T, addr string, protocols ...string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{
		InsecureSkipVerify: true, NextProtos: protocols, Certificates: []tls.Certificate{certificate(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// halfSent opens a stream, announces a message of 1 MiB and sends 10 bytes of it.
func halfSent(t *testing.T, addr string) raw {
	t.Helper()
	c := dialRaw(t, addr, "h2")
	r := raw{c, http2.NewFramer(c, c)}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", "/rpc.Marble/Activate"}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	message := binary.BigEndian.AppendUint32([]byte{0}, 1<<20)
	message = append(message, make([]byte, 10)...)
	for _, err := range []error{
		r.WriteSettings(),
		r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		r.WriteData(1, false, message),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// ended reads frames until the server ends stream 1, and reports whether it did.
func (r raw) ended() bool {
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return false
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return true
			}
		case *http2.RSTStreamFrame:
			return true
		}
	}
}

func TestHalfSentRequestsEnd(t *testing.T) {
	addr, s := start(t, Config{Activator: activator(accept), Limits: Limits{ArrivalTimeout: 50 * time.Millisecond}})
	r := halfSent(t, addr)
	if !r.ended() {
		t.Error("the server did not end the stream")
	}
	waitFor(t, func() bool { return s.arriving.Held() == 0 })
}

func TestArrivingRequestsHaveBoundedPlaces(t *testing.T) {
	addr, s := start(t, Config{
		Activator: activator(accept), Limits: Limits{Arriving: 1, ArrivalGrace: time.Hour, ArrivalTimeout: time.Hour},
	})
	r := halfSent(t, addr)
	waitFor(t, func() bool { return s.arriving.Held() == 1 })
	answered := make(chan error, 1)
	c := client(t, addr, certificate(t))
	go func() {
		_, err := c.Activate(t.Context(), &marblepb.ActivationReq{})
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("answered without a free place: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	_ = r.Conn.Close() // frees the place
	if err := <-answered; err != nil {
		t.Errorf("with a free place: %v", err)
	}
}

func TestShutdownEndsWaitingForAPlace(t *testing.T) {
	addr, s := start(t, Config{
		Activator: activator(accept), Limits: Limits{Arriving: 1, ArrivalGrace: time.Hour, ArrivalTimeout: time.Hour},
	})
	halfSent(t, addr)
	waitFor(t, func() bool { return s.arriving.Held() == 1 })
	answered := make(chan error, 1)
	c := client(t, addr, certificate(t))
	go func() {
		_, err := c.Activate(t.Context(), &marblepb.ActivationReq{})
		answered <- err
	}()
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Shutdown(ctx)
	if err := <-answered; status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestSlowArrivalsMakeRoom(t *testing.T) {
	addr, s := start(t, Config{
		Activator: activator(accept), Limits: Limits{Arriving: 1, ArrivalGrace: time.Nanosecond, ArrivalTimeout: time.Hour},
	})
	r := halfSent(t, addr)
	waitFor(t, func() bool { return s.arriving.Held() == 1 })
	if _, err := client(t, addr, certificate(t)).Activate(t.Context(), &marblepb.ActivationReq{}); err != nil {
		t.Errorf("behind a slow one: %v", err)
	}
	if !r.ended() {
		t.Error("the slow one was not sent away")
	}
}

func TestRubbishDoesNotHurt(t *testing.T) {
	addr, _ := start(t, Config{Activator: activator(accept)})
	for name, bytes := range map[string]string{
		"nothing":             "",
		"rubbish":             "\x00\xff rubbish \r\n\r\n",
		"half a preface":      http2.ClientPreface[:10],
		"truncated frame":     http2.ClientPreface + "\x00\x00\x12\x04\x00\x00",
		"frame of 16 MiB":     http2.ClientPreface + "\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		"HTTP/1.1":            "POST /rpc.Marble/Activate HTTP/1.1\r\nHost: x\r\n\r\n",
		"headers on stream 0": http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x01\x05\x00\x00\x00\x00",
	} {
		c := dialRaw(t, addr, "h2")
		if _, err := io.WriteString(c, bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the server hangs up
	}
	if _, err := client(t, addr, certificate(t)).Activate(t.Context(), &marblepb.ActivationReq{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWithoutALPNTheServerHangsUp(t *testing.T) {
	addr, _ := start(t, Config{Activator: activator(accept)})
	for _, protocols := range [][]string{nil, {"http/1.1"}} {
		c := dialRaw(t, addr, protocols...)
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			t.Errorf("%v: read %d bytes, %v", protocols, n, err)
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never happened")
}
