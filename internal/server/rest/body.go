// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/marblerun/marblerun/internal/coordinator"
)

const (
	// minRate is how many bytes per second a body must arrive with, and a reply leave, after a grace.
	minRate = 64 << 10
	// readGrace is how long the first minRate bytes of a body may take.
	readGrace = 10 * time.Second
	// freeBody is how many bytes of each body are not counted against the budget.
	freeBody = 64 << 10
)

// budget is memory that all bodies share.
type budget struct {
	mu   sync.Mutex
	free int64
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.free {
		return false
	}
	b.free -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
}

// body reads the whole body, at most limit bytes.
func (c *call) body(limit int64) ([]byte, error) {
	if c.r.ContentLength > limit {
		return nil, c.tooLarge(limit)
	}
	data, err := c.read(limit + 1)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, c.tooLarge(limit)
	}
	return data, nil
}

// tooLarge refuses a body of which the rest will not be read.
func (c *call) tooLarge(limit int64) error {
	c.hangUp()
	return badRequest("bad request: the body is larger than %s", size(limit))
}

// hangUp ends an HTTP/1 connection after the reply, because the rest of the body would have to be read before the next
// request. In HTTP/2 the stream alone ends; some clients drop the reply if the connection does.
func (c *call) hangUp() {
	if c.r.ProtoMajor == 1 {
		c.w.Header().Set("Connection", "close")
	}
}

func size(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// read reads up to n bytes of the body, in pieces, so that memory grows with what has arrived and not with what was
// announced.
func (c *call) read(n int64) ([]byte, error) {
	defer c.readBy(time.Time{})
	var pieces [][]byte
	var total int64
	start := time.Now()
	for pieceSize := int64(8 << 10); total < n; pieceSize = min(2*pieceSize, 1<<20) {
		if err := c.charge(total); err != nil {
			return nil, err
		}
		piece := make([]byte, min(pieceSize, n-total))
		k, err := c.fill(piece, start, total)
		pieces = append(pieces, piece[:k])
		total += int64(k)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, c.unreadable(err)
		}
	}
	if len(pieces) == 1 {
		return pieces[0], nil
	}
	return bytes.Join(pieces, nil), nil
}

// fill reads until the piece is full, at minRate or faster; total bytes have arrived since start. The error is io.EOF
// only at the end of the body, never at that of a connection.
func (c *call) fill(piece []byte, start time.Time, total int64) (n int, err error) {
	for n < len(piece) && err == nil {
		c.readBy(start.Add(readGrace + timeFor(total+int64(n))))
		var k int
		k, err = c.r.Body.Read(piece[n:])
		n += k
	}
	c.received = err == io.EOF
	return n, err
}

// charge takes memory for the next piece of a body of which total bytes are there.
func (c *call) charge(total int64) error {
	if total < freeBody {
		return nil
	}
	n := min(total, 1<<20) // the next piece is at most as large as what is there
	if !c.api.memory.take(n) {
		c.hangUp()
		return refuse(coordinator.Unavailable, "the Coordinator is reading too many large requests, try again later")
	}
	c.cleanup = append(c.cleanup, func() { c.api.memory.give(n) })
	return nil
}

func (c *call) unreadable(err error) error {
	c.hangUp()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return badRequest("bad request: the body arrived too slowly")
	}
	return badRequest("bad request: reading the body: %v", err)
}

// decode reads a version 2 body: its first JSON value; what follows is ignored.
func decode[T any](c *call, limit int64) (T, error) {
	var v T
	data, err := c.body(limit)
	if err != nil {
		return v, err
	}
	return decodeFirst[T](data)
}

func decodeFirst[T any](data []byte) (v T, err error) {
	err = json.NewDecoder(bytes.NewReader(data)).Decode(&v)
	switch {
	case errors.Is(err, io.EOF):
		err = badRequest("bad request: the body is empty")
	case err != nil:
		err = badRequest("bad request: %v", err)
	}
	return v, err
}
