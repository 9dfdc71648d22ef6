// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/marblerun/marblerun/internal/journal"
)

// The file, all integers big-endian; see docs/design/journal.md.
const (
	magic         = "MRBLDATA"
	formatVersion = 1
	batchMagic    = "MRB1"

	// magic 8, version 4, header length 4, snapshot length 8, position 8, first 8, anchor 32, CRC 4, CRC 4
	preambleSize = 80
	batchHead    = 28 // magic 4, payload length 4, first position 8, count 4, payload CRC 4, head CRC 4

	maxHeader = 4 << 20   // bytes of the header
	maxBatch  = 512 << 20 // bytes of one batch's payload
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(parts ...[]byte) uint32 {
	sum := uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

// preamble is the fixed-size start of the file.
type preamble struct {
	header   uint32 // length in bytes
	snapshot uint64 // length in bytes
	position uint64
	first    uint64
	anchor   journal.Hash
	crc      uint32 // CRC-32C of header ‖ snapshot
}

func (p preamble) frames() int64 { return preambleSize + int64(p.header) + int64(p.snapshot) }

func (p preamble) encode() []byte {
	b := make([]byte, 0, preambleSize)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, formatVersion)
	b = binary.BigEndian.AppendUint32(b, p.header)
	b = binary.BigEndian.AppendUint64(b, p.snapshot)
	b = binary.BigEndian.AppendUint64(b, p.position)
	b = binary.BigEndian.AppendUint64(b, p.first)
	b = append(b, p.anchor[:]...)
	b = binary.BigEndian.AppendUint32(b, p.crc)
	return binary.BigEndian.AppendUint32(b, crc(b))
}

// decodePreamble checks everything that can be checked without the rest of the file of the given size.
func decodePreamble(b []byte, size int64) (preamble, error) {
	bad := func(format string, args ...any) (preamble, error) {
		return preamble{}, &journal.CorruptError{Offset: 0, Text: fmt.Sprintf(format, args...)}
	}
	if len(b) < len(magic)+4 || string(b[:len(magic)]) != magic {
		return bad("this is not a journal of this program")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != formatVersion {
		return bad("format version %d is unknown to this program, which knows version %d", v, formatVersion)
	}
	if len(b) < preambleSize {
		return bad("the file ends after %d bytes", len(b))
	}
	if binary.BigEndian.Uint32(b[preambleSize-4:]) != crc(b[:preambleSize-4]) {
		return bad("checksum mismatch in the first %d bytes", preambleSize)
	}
	p := preamble{
		header:   binary.BigEndian.Uint32(b[12:]),
		snapshot: binary.BigEndian.Uint64(b[16:]),
		position: binary.BigEndian.Uint64(b[24:]),
		first:    binary.BigEndian.Uint64(b[32:]),
		anchor:   journal.Hash(b[40:72]),
		crc:      binary.BigEndian.Uint32(b[72:]),
	}
	rest := uint64(size - preambleSize)
	if p.header > maxHeader || uint64(p.header) > rest || p.snapshot > rest-uint64(p.header) {
		return bad("the file ends inside its header or snapshot")
	}
	if p.first == 0 || p.position == ^uint64(0) || p.first > p.position+1 {
		return bad("first record %d does not fit the snapshot at %d", p.first, p.position)
	}
	return p, nil
}

// batch is the unit of writing: all frames of one Append, under one checksum,
// so that a write torn by a crash is recognised as one thing whatever parts of
// it reached the disk.
type batch struct {
	length uint32 // payload bytes
	first  uint64 // position of its first frame
	count  uint32 // frames in it
	crc    uint32 // CRC-32C of the payload
}

func (b batch) encode(dst []byte) {
	copy(dst, batchMagic)
	binary.BigEndian.PutUint32(dst[4:], b.length)
	binary.BigEndian.PutUint64(dst[8:], b.first)
	binary.BigEndian.PutUint32(dst[16:], b.count)
	binary.BigEndian.PutUint32(dst[20:], b.crc)
	binary.BigEndian.PutUint32(dst[24:], crc(dst[:24]))
}

// decodeBatch reports whether b begins with a whole batch head.
func decodeBatch(b []byte) (batch, bool) {
	if len(b) < batchHead || string(b[:4]) != batchMagic || binary.BigEndian.Uint32(b[24:]) != crc(b[:24]) {
		return batch{}, false
	}
	out := batch{
		length: binary.BigEndian.Uint32(b[4:]),
		first:  binary.BigEndian.Uint64(b[8:]),
		count:  binary.BigEndian.Uint32(b[16:]),
		crc:    binary.BigEndian.Uint32(b[20:]),
	}
	return out, out.count > 0 && out.length <= maxBatch
}

// writer collects frames into a batch.
type writer struct {
	buf   []byte // batchHead bytes of room, then the payload
	first uint64
	count uint32
}

func (w *writer) reset(first uint64) {
	w.buf = append(w.buf[:0], make([]byte, batchHead)...)
	w.first, w.count = first, 0
}

func (w *writer) add(body []byte) {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(body)))
	w.buf = append(w.buf, body...)
	w.count++
}

// bytes completes the batch.
func (w *writer) bytes() ([]byte, error) {
	payload := w.buf[batchHead:]
	if len(payload) > maxBatch {
		return nil, fmt.Errorf("a group of %d bytes is larger than the limit of %d", len(payload), maxBatch)
	}
	batch{length: uint32(len(payload)), first: w.first, count: w.count, crc: crc(payload)}.encode(w.buf)
	return w.buf, nil
}

// split cuts a payload into its frame bodies; false if it does not fit exactly.
func split(payload []byte, count uint32, visit func(body []byte) bool) bool {
	for range count {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			return false
		}
		body := payload[used : used+int(n)]
		payload = payload[used+int(n):]
		if !visit(body) {
			return true
		}
	}
	return len(payload) == 0
}
