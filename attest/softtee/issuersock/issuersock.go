// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package issuersock is the client of a software TEE's evidence socket (package softtee): send 64 bytes of report data,
// get evidence. A process that is to look as if it ran in a TEE uses it and needs no code of the software TEE itself.
//
// The protocol, over a Unix stream socket, one exchange a connection; integers are little endian:
//
//	request  u32 length ‖ report data[64] ‖ kind, 0 to 32 bytes of ASCII; empty means the socket's default
//	reply    u32 length ‖ u8 status ‖ u8 k ‖ kind[k] ‖ evidence (status 0) or an error text (status 1)
//
// Invariants: both lengths are bounded before anything is allocated; the package has no cryptography and depends on the
// standard library only.
package issuersock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Bounds in bytes.
const (
	// MaxEvidence is the most that a reply carries.
	MaxEvidence = 64 << 10
	maxKind     = 32
	reportSize  = 64
	maxErrText  = 1 << 10
)

const (
	statusOK    = 0
	statusError = 1
)

// DefaultTimeout bounds an exchange whose context has no deadline.
const DefaultTimeout = 10 * time.Second

// Evidence is what a software TEE issued.
type Evidence struct {
	// Kind is what was issued, e.g. "sgx-v3", "tdx-v5", "snp-v3".
	Kind string
	// Data is the evidence in the form that travels on the wire.
	Data []byte
}

// Issue asks the software TEE at a Unix socket for evidence of a kind ("" is the socket's default).
func Issue(ctx context.Context, path, kind string, reportData [64]byte) (Evidence, error) {
	e, err := issue(ctx, path, kind, reportData)
	if err != nil {
		return Evidence{}, fmt.Errorf("software TEE at %s: %w", path, err)
	}
	return e, nil
}

func issue(ctx context.Context, path, kind string, reportData [64]byte) (Evidence, error) {
	if len(kind) > maxKind {
		return Evidence{}, fmt.Errorf("kind of %d bytes, at most %d", len(kind), maxKind)
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return Evidence{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(frame(reportData[:], []byte(kind))); err != nil {
		return Evidence{}, errors.Join(ctx.Err(), fmt.Errorf("sending the request: %w", err))
	}
	e, err := readReply(conn)
	if err != nil {
		return Evidence{}, errors.Join(ctx.Err(), err)
	}
	return e, nil
}

func readReply(r io.Reader) (Evidence, error) {
	b, err := readFrame(r, 2, 2+maxKind+MaxEvidence)
	if err != nil {
		return Evidence{}, fmt.Errorf("reading the reply: %w", err)
	}
	status, k := b[0], int(b[1])
	if k > maxKind || 2+k > len(b) {
		return Evidence{}, fmt.Errorf("reading the reply: kind of %d bytes", k)
	}
	kind, data := string(b[2:2+k]), b[2+k:]
	switch {
	case status == statusOK && len(data) > 0:
		return Evidence{Kind: kind, Data: data}, nil
	case status == statusError:
		return Evidence{}, fmt.Errorf("refused: %.*q", maxErrText, data)
	}
	return Evidence{}, fmt.Errorf("reading the reply: status %d with %d bytes", status, len(data))
}

// ReadRequest reads a request: the server's side.
func ReadRequest(r io.Reader) (kind string, reportData [64]byte, err error) {
	b, err := readFrame(r, reportSize, reportSize+maxKind)
	if err != nil {
		return "", reportData, fmt.Errorf("reading the request: %w", err)
	}
	return string(b[reportSize:]), [64]byte(b), nil
}

// WriteReply writes evidence, or the text of an error: the server's side.
func WriteReply(w io.Writer, e Evidence, failed error) error {
	if failed == nil && len(e.Data) > MaxEvidence {
		failed = fmt.Errorf("evidence of %d bytes, at most %d", len(e.Data), MaxEvidence)
	}
	status, kind := byte(statusOK), e.Kind[:min(len(e.Kind), maxKind)]
	if failed != nil {
		status = statusError
		e.Data = []byte(failed.Error())
		e.Data = e.Data[:min(len(e.Data), maxErrText)]
	}
	if _, err := w.Write(frame([]byte{status, byte(len(kind))}, []byte(kind), e.Data)); err != nil {
		return fmt.Errorf("writing the reply: %w", err)
	}
	return nil
}

// frame is u32 length ‖ parts.
func frame(parts ...[]byte) []byte {
	out := make([]byte, 4)
	for _, p := range parts {
		out = append(out, p...)
	}
	binary.LittleEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

func readFrame(r io.Reader, min, max uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < min || n > max {
		return nil, fmt.Errorf("frame of %d bytes, want %d to %d", n, min, max)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}
