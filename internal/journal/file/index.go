// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"slices"
	"sort"

	"github.com/marblerun/marblerun/internal/journal"
)

// mark is a place in the file where a batch begins.
type mark struct {
	position uint64       // of the batch's first frame
	offset   int64        // in bytes
	prev     journal.Hash // chain hash before that frame
}

const (
	firstStride = 64 << 10 // bytes between marks to begin with
	maxMarks    = 2048     // 48 bytes each: the index stays below 100 KiB however long the file grows
)

// index finds the batch near a position. The slice is append-only between
// thinnings, and a thinning makes a new one, so a copy of the struct stays
// valid for a reader while the writer goes on.
type index struct {
	stride int64
	marks  []mark // marks[0] is the first batch
}

func newIndex(start mark) index {
	return index{stride: firstStride, marks: []mark{start}}
}

func (x *index) add(m mark) {
	if m.offset-x.marks[len(x.marks)-1].offset < x.stride {
		return
	}
	if len(x.marks) == maxMarks {
		thin := make([]mark, 0, maxMarks)
		for pair := range slices.Chunk(x.marks, 2) {
			thin = append(thin, pair[0])
		}
		x.marks, x.stride = thin, 2*x.stride
	}
	x.marks = append(x.marks, m)
}

// before returns the last mark that is not beyond the frame after `after`.
func (x *index) before(after uint64) mark {
	i := sort.Search(len(x.marks), func(i int) bool { return x.marks[i].position > after+1 })
	return x.marks[max(i-1, 0)]
}
