// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// quantity is a positive whole amount in the notation of Kubernetes: an integer or decimal number with one of the
// suffixes Ki Mi Gi Ti Pi Ei k M G T P E, or none.
type quantity struct {
	// text is as it was written.
	text   string
	amount int64
}

const mebi = 1 << 20

// parseQuantity reads what a person wrote. Extended resources are counted in whole numbers, so parts are refused; the
// exponent notation is not known here.
func parseQuantity(text string) (quantity, error) {
	wrong := fmt.Errorf("%q is not a positive whole quantity such as 10, 32Mi or 1Gi", text)
	digits := strings.TrimRight(text, "KMGTPEki")
	scale, known := scaleOf(text[len(digits):])
	if !known || len(digits) > 20 || strings.Trim(digits, "0123456789.") != "" {
		return quantity{}, wrong
	}
	number, ok := new(big.Rat).SetString(digits)
	if !ok {
		return quantity{}, wrong
	}
	number.Mul(number, new(big.Rat).SetInt64(scale))
	if !number.IsInt() || number.Sign() <= 0 || !number.Num().IsInt64() {
		return quantity{}, wrong
	}
	return quantity{text, number.Num().Int64()}, nil
}

func scaleOf(suffix string) (scale int64, known bool) {
	if suffix == "" {
		return 1, true
	}
	letters, base := "kMGTPE", int64(1000) // 1000 is k, 1024 is Ki
	letter, binary := strings.CutSuffix(suffix, "i")
	if binary {
		letters, base = "KMGTPE", 1024
	}
	scale = 1
	power := strings.Index(letters, letter)
	if len(letter) != 1 || power < 0 {
		return 0, false
	}
	for range power + 1 {
		scale *= base
	}
	return scale, true
}

// verbatim leaves the unit to the plugin.
func verbatim(q quantity) (string, error) { return q.text, nil }

func inBytes(q quantity) (string, error) {
	if q.amount < mebi {
		return "", fmt.Errorf("%q is less than 1Mi; the size is in bytes, did you mean %dMi?", q.text, q.amount)
	}
	return q.text, nil
}

// inMiB rounds up: a plugin that counts MiB has no smaller unit.
func inMiB(q quantity) (string, error) {
	if _, err := inBytes(q); err != nil {
		return "", err
	}
	n := q.amount / mebi
	if q.amount%mebi != 0 {
		n++
	}
	return strconv.FormatInt(n, 10), nil
}
