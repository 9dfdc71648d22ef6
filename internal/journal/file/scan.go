// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/marblerun/marblerun/internal/journal"
)

// scanner walks the batches of a file from a mark to an end.
type scanner struct {
	src io.ReaderAt
	in  *bufio.Reader
	at  mark  // where the next batch begins
	end int64 // bytes of the file that may be read
	buf []byte
}

func newScanner(src io.ReaderAt, from mark, end int64) *scanner {
	section := io.NewSectionReader(src, from.offset, end-from.offset)
	return &scanner{src: src, in: bufio.NewReaderSize(section, 256<<10), at: from, end: end}
}

// errTorn: the bytes at the scanner's position are not a whole batch.
var errTorn = errors.New("not a whole batch")

// next reads one batch into s.buf and moves behind it. io.EOF at the end,
// errTorn if the bytes there are no batch, *journal.CorruptError if they are a
// batch that does not belong there.
func (s *scanner) next() (batch, error) {
	if s.at.offset == s.end {
		return batch{}, io.EOF
	}
	head, err := s.in.Peek(batchHead)
	if err != nil {
		return batch{}, tornAtEnd(err)
	}
	b, ok := decodeBatch(head)
	if !ok || int64(b.length) > s.end-s.at.offset-batchHead {
		return batch{}, errTorn
	}
	if cap(s.buf) < int(b.length) {
		s.buf = make([]byte, b.length)
	}
	s.buf = s.buf[:b.length]
	if _, err := s.in.Discard(batchHead); err != nil {
		return batch{}, tornAtEnd(err)
	}
	if _, err := io.ReadFull(s.in, s.buf); err != nil {
		return batch{}, tornAtEnd(err)
	}
	if crc(s.buf) != b.crc {
		return batch{}, errTorn
	}
	if b.first != s.at.position {
		return batch{}, s.corrupt(fmt.Sprintf("found record %d in its place", b.first))
	}
	return b, nil
}

func tornAtEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return fmt.Errorf("reading the journal: %w", err)
}

func (s *scanner) corrupt(text string) error {
	return &journal.CorruptError{Position: s.at.position, Offset: s.at.offset, Text: text}
}

// frames yields the frames of all batches. It ends silently at s.end; every
// other end is an error, errTorn included. atBatch, if not nil, is called with
// each batch's mark before its frames.
func (s *scanner) frames(ctx context.Context, atBatch func(mark)) iter.Seq2[journal.Frame, error] {
	return func(yield func(journal.Frame, error) bool) {
		for {
			err := ctx.Err()
			var b batch
			if err == nil {
				b, err = s.next()
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(journal.Frame{}, err)
				return
			}
			if atBatch != nil {
				atBatch(s.at)
			}
			if !s.yield(b, yield) {
				return
			}
		}
	}
}

// yield passes on the frames of the batch in s.buf.
func (s *scanner) yield(b batch, yield func(journal.Frame, error) bool) bool {
	next := mark{position: s.at.position, offset: s.at.offset + batchHead + int64(b.length), prev: s.at.prev}
	more := true
	fits := split(s.buf, b.count, func(body []byte) bool {
		f := journal.Frame{Position: next.position, Body: body, Prev: next.prev}
		f.Chain = journal.Link(f.Prev, f.Position, body)
		next.position, next.prev = next.position+1, f.Chain
		more = yield(f, nil)
		return more
	})
	if !fits && more {
		yield(journal.Frame{}, s.corrupt("its group has a wrong length"))
		return false
	}
	s.at = next
	return more
}

// laterBatch looks for a batch of a later position after the scanner's place:
// if there is one, what stands there was not the last write, so it is damage
// and no torn tail.
func (s *scanner) laterBatch() (uint64, bool, error) {
	const chunk = 1 << 20
	buf := make([]byte, chunk+batchHead)
	for off := s.at.offset + 1; off < s.end; off += chunk {
		n, err := s.src.ReadAt(buf[:min(int64(len(buf)), s.end-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, false, fmt.Errorf("reading the journal: %w", err)
		}
		for i := 0; i < min(n, chunk); i++ {
			next := bytes.Index(buf[i:n], []byte(batchMagic))
			if next < 0 {
				break
			}
			i += next
			if b, ok := decodeBatch(buf[i:n]); ok && b.first > s.at.position && s.whole(b, off+int64(i)) {
				return b.first, true, nil
			}
		}
	}
	return 0, false, nil
}

// whole reports whether the payload of a batch found at offset is there and matches its checksum.
func (s *scanner) whole(b batch, offset int64) bool {
	if int64(b.length) > s.end-offset-batchHead {
		return false
	}
	payload := make([]byte, b.length)
	if _, err := s.src.ReadAt(payload, offset+batchHead); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	return crc(payload) == b.crc
}
