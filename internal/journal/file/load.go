// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/marblerun/marblerun/internal/journal"
)

// Load implements journal.Driver.
func (d *Driver) Load(context.Context) (journal.Head, error) {
	img, err := d.open()
	if err != nil {
		return journal.Head{}, err
	}
	p, err := readPreamble(img.f)
	if err != nil {
		return journal.Head{}, err
	}
	buf := make([]byte, p.frames()-preambleSize)
	if _, err := img.f.ReadAt(buf, preambleSize); err != nil && !errors.Is(err, io.EOF) {
		return journal.Head{}, fmt.Errorf("reading the journal: %w", err)
	}
	if crc(buf) != p.crc {
		const text = "checksum mismatch in header or snapshot"
		return journal.Head{}, &journal.CorruptError{Offset: preambleSize, Text: text}
	}
	head := journal.Head{Position: p.position, First: p.first, Anchor: p.anchor}
	head.Header, head.Snapshot = buf[:p.header:p.header], buf[p.header:]
	return head, nil
}

func readPreamble(f journal.File) (preamble, error) {
	size, err := f.Size()
	if err != nil {
		return preamble{}, fmt.Errorf("reading the journal: %w", err)
	}
	buf := make([]byte, preambleSize)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return preamble{}, fmt.Errorf("reading the journal: %w", err)
	}
	return decodePreamble(buf[:n], size)
}

// Replay implements journal.Driver.
func (d *Driver) Replay(ctx context.Context, visit func(journal.Frame) error) (journal.Tail, error) {
	img, err := d.open()
	if err != nil {
		return journal.Tail{}, err
	}
	p, err := readPreamble(img.f)
	if err != nil {
		return journal.Tail{}, err
	}
	size, err := img.f.Size()
	if err != nil {
		return journal.Tail{}, fmt.Errorf("reading the journal: %w", err)
	}
	start := mark{position: p.first, offset: p.frames(), prev: p.anchor}
	scan, marks := newScanner(img.f, start, size), newIndex(start)
	for f, err := range scan.frames(ctx, marks.add) {
		if errors.Is(err, errTorn) {
			err = scan.judge()
			if err == nil {
				break
			}
		}
		if err != nil {
			return journal.Tail{}, err
		}
		if err := visit(f); err != nil {
			return journal.Tail{}, err
		}
	}
	if scan.at.position <= p.position {
		return journal.Tail{}, scan.corrupt(fmt.Sprintf("the file ends before record %d of its snapshot", p.position))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	img.start, img.index, img.end = start, marks, scan.at.offset
	img.last, img.chain = scan.at.position-1, scan.at.prev
	return journal.Tail{Last: img.last, Chain: img.chain, Torn: size - img.end}, nil
}

// judge decides about bytes that are no whole batch: nil if they are a torn tail.
func (s *scanner) judge() error {
	later, found, err := s.laterBatch()
	if err != nil {
		return err
	}
	if found {
		return s.corrupt(fmt.Sprintf("unreadable, but record %d follows", later))
	}
	return nil
}
