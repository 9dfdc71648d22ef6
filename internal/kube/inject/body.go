// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

const (
	// MaxBody is the size of the largest review that is read, in bytes. The API server takes objects of up to 3 MiB, and a
	// review may hold one twice.
	MaxBody = 8 << 20
	// freeBody is how many bytes of every body are not counted against maxBodies, so that ordinary reviews pass while
	// somebody sends large ones. maxBodies is for all large bodies together.
	freeBody  = 16 << 10
	maxBodies = 32 << 20
)

var (
	errTooLarge = fmt.Errorf("unable to read request: the body is larger than %d MiB", MaxBody>>20)
	errBusy     = errors.New("unable to read request: too many large requests at once, try again")
)

// bodies reads bodies of bounded size, one by one and together.
type bodies struct{ taken atomic.Int64 }

// read returns the body. The caller calls release, also after an error, when it has done with it.
func (b *bodies) read(r *http.Request) (body []byte, release func(), err error) {
	var taken int64
	release = func() { b.taken.Add(-taken) }
	if r.ContentLength > MaxBody {
		return nil, release, errTooLarge
	}
	for {
		piece, err := io.ReadAll(io.LimitReader(r.Body, freeBody))
		if err != nil {
			return nil, release, fmt.Errorf("unable to read request: %w", err)
		}
		body = append(body, piece...)
		if len(body) > MaxBody {
			return nil, release, errTooLarge
		}
		if len(piece) < freeBody {
			return body, release, nil
		}
		taken += freeBody
		if b.taken.Add(freeBody) > maxBodies {
			return nil, release, errBusy
		}
	}
}
