// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// loadUUID reads the UUID file, or writes one with a new UUID if there is none. It returns the canonical form.
func loadUUID(file string, rand io.Reader, log *slog.Logger) (string, error) {
	id, err := readUUID(file)
	if errors.Is(err, os.ErrNotExist) {
		log.Info("UUID not found. Generating and storing a new UUID")
		if id, err = createUUID(file, rand); errors.Is(err, os.ErrExist) {
			id, err = readUUID(file) // somebody else created it meanwhile
		}
	}
	if err != nil {
		return "", err
	}
	log.Info("found UUID: " + id)
	return id, nil
}

// readUUID takes white space around the UUID (quirk Q8).
func readUUID(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", &Error{Text: "reading the UUID file", Hint: "check " + EnvUUIDFile, Err: err}
	}
	id, err := parseUUID(strings.TrimSpace(string(data)))
	if err != nil {
		return "", &Error{Text: "reading the UUID file " + file, Err: err,
			Hint: "restore the file; or delete it, and this Marble becomes a new one with other per-Marble keys"}
	}
	return id, nil
}

// createUUID writes 36 characters without newline, mode 0600, and leaves no partial file behind if it fails.
func createUUID(file string, rand io.Reader) (_ string, err error) {
	id, err := newUUID(rand)
	if err != nil {
		return "", fmt.Errorf("generating a UUID: %w", err)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", &Error{Text: "creating the UUID file", Err: err,
			Hint: "its folder must exist and be writable; check " + EnvUUIDFile}
	}
	_, err = out.WriteString(id)
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(&Error{Text: "writing the UUID file", Err: err}, os.Remove(file))
	}
	return id, nil
}

// newUUID makes a random UUID, version 4 of RFC 9562.
func newUUID(rand io.Reader) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return "", err
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return formatUUID(id[:]), nil
}

// formatUUID writes the canonical form: lower case, 36 characters.
func formatUUID(id []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// parseUUID reads the four spellings of marble-api §4 in any case and returns the canonical form. It never repeats
// the text in an error: a wrong path may point to anything.
func parseUUID(text string) (string, error) {
	digits := text
	switch {
	case len(text) == 45 && strings.EqualFold(text[:9], "urn:uuid:"):
		digits = text[9:]
	case len(text) == 38 && text[0] == '{' && text[37] == '}':
		digits = text[1:37]
	}
	if len(digits) == 36 {
		if digits[8] != '-' || digits[13] != '-' || digits[18] != '-' || digits[23] != '-' {
			return "", errUUID(text)
		}
		digits = digits[:8] + digits[9:13] + digits[14:18] + digits[19:23] + digits[24:]
	} else if digits != text {
		return "", errUUID(text)
	}
	id, err := hex.DecodeString(digits)
	if err != nil || len(id) != 16 {
		return "", errUUID(text)
	}
	return formatUUID(id), nil
}

func errUUID(text string) error {
	return fmt.Errorf("its content, %d characters, is not a UUID", len(text))
}
