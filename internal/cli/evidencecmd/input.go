// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/attest"
)

// maxFile is the largest file that is read, in bytes: evidence in text form, with certificates beside it.
const maxFile = 1 << 20

// input is evidence as it was found in a file.
type input struct {
	path     string
	encoding string // "binary", "hex", "base64", "quote reply"
	raw      []byte
}

// readInput reads a file.
func readInput(path string) (input, error) {
	in := input{path: path}
	f, err := os.Open(path)
	if err != nil {
		return in, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return in, err
	}
	if len(data) > maxFile {
		return in, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	if in.encoding, in.raw, err = decode(data); err != nil {
		return in, fmt.Errorf("%s: %w", path, err)
	}
	return in, nil
}

// decode finds the evidence in a file's content. Binary evidence is never printable: it begins with a version below 32
// in two bytes.
func decode(data []byte) (encoding string, raw []byte, err error) {
	text := bytes.TrimSpace(data)
	switch {
	case len(text) == 0:
		return "", nil, errors.New("the file is empty")
	case text[0] == '{':
		raw, err = fromReply(text)
		return "quote reply", raw, err
	case bytes.ContainsFunc(text, unprintable):
		return "binary", data, nil
	}
	compact := strings.Join(strings.Fields(string(text)), "")
	if raw, err = hex.DecodeString(strings.TrimPrefix(compact, "0x")); err == nil {
		return "hex", raw, nil
	}
	unpadded := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(compact), "=")
	if raw, err = base64.RawStdEncoding.DecodeString(unpadded); err == nil {
		return "base64", raw, nil
	}
	return "", nil, api.WithHint(errors.New("this is no evidence"),
		"A quote or report may be binary, hex, base64, or the JSON reply of a Coordinator's /quote.")
}

func unprintable(r rune) bool {
	return r > '~' || r < ' ' && !strings.ContainsRune("\t\r\n", r)
}

// fromReply takes the quote out of the reply of /quote, of both versions, with or without its envelope.
func fromReply(text []byte) ([]byte, error) {
	type quote struct{ Quote []byte }
	var reply struct {
		Data    *quote
		Quote   []byte
		Message string
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return nil, fmt.Errorf("reading the JSON of a /quote reply: %w", err)
	}
	if reply.Data != nil {
		reply.Quote = reply.Data.Quote
	}
	if len(reply.Quote) == 0 {
		return nil, api.WithHint(errors.New("the JSON has no quote"),
			"A Coordinator in simulation sends none. Other JSON than the reply of /quote is not understood.")
	}
	return reply.Quote, nil
}

// parse understands the wrapping of the evidence.
func (in input) parse() (attest.Evidence, error) {
	e, err := attest.Parse(in.raw)
	if err != nil {
		return e, fmt.Errorf("%s: %w", in.path, err)
	}
	return e, nil
}

// Read reads the evidence in a file, in any of the forms.
func Read(path string) (attest.Evidence, error) {
	in, err := readInput(path)
	if err != nil {
		return attest.Evidence{}, err
	}
	return in.parse()
}
