// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"iter"

	"github.com/marblerun/marblerun/internal/journal"
)

// Reader implements journal.Driver.
func (d *Driver) Reader() (journal.Reader, error) { return d.view() }

func (d *Driver) view() (*reader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, journal.ErrClosed
	}
	if d.img == nil || d.img.index.marks == nil {
		return nil, errors.New("the journal was not replayed")
	}
	d.img.refs.Add(1)
	return &reader{img: d.img, index: d.img.index, end: d.img.end, last: d.img.last}, nil
}

type reader struct {
	img   *image
	index index
	end   int64
	last  uint64
}

// Frames implements journal.Reader.
func (r *reader) Frames(ctx context.Context, after uint64) iter.Seq2[journal.Frame, error] {
	return func(yield func(journal.Frame, error) bool) {
		if after >= r.last {
			return
		}
		scan := newScanner(r.img.f, r.index.before(after), r.end)
		for f, err := range scan.frames(ctx, nil) {
			if errors.Is(err, errTorn) {
				err = scan.corrupt("unreadable")
			}
			if err == nil && f.Position <= after {
				continue
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// Close implements journal.Reader.
func (r *reader) Close() error { return r.img.release() }
