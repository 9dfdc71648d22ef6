// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package spelling finds the word that somebody probably meant.
//
// Its work is bounded whatever it is given: words longer than 40 bytes and lists longer than 200 words are not
// searched.
package spelling

import "strings"

const (
	maxWord = 40
	maxList = 200
)

// Nearest returns the candidate closest to word, ignoring case, or "" if none is close. Ties go to the earlier
// candidate.
func Nearest(word string, candidates []string) string {
	if word == "" || len(word) > maxWord || len(candidates) > maxList {
		return ""
	}
	lower := strings.ToLower(word)
	best, bestDistance := "", min(1+len(word)/3, len(word)-1) // never a word with no letter in common
	for _, c := range candidates {
		if c == word || len(c) > maxWord {
			continue
		}
		if d := distance(lower, strings.ToLower(c), bestDistance); d < bestDistance || (d == bestDistance && best == "") {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance in bytes (insertion, deletion, substitution, swap of neighbors), or
// more than limit if the lengths alone say so.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
