// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcbdata

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
)

// TestRecover: a recovery makes a new data set and leaves the old one alone; machines keep their SVNs.
func TestRecover(t *testing.T) {
	before := NewDataset()
	after := before.Recover().Recover()
	if diff := cmp.Diff(NewDataset(), before); diff != "" {
		t.Errorf("the old data set changed:\n%s", diff)
	}
	if after.EvaluationNumber != before.EvaluationNumber+2 || len(after.Platform) != len(before.Platform)+2 {
		t.Errorf("after two recoveries: %+v", after)
	}
	for i, l := range after.Platform {
		if i > 0 && l.SVN >= after.Platform[i-1].SVN {
			t.Errorf("level %d is not below the one before", i)
		}
		if i > 0 && l.Status == attest.UpToDate {
			t.Errorf("level %d is still UpToDate", i)
		}
	}
}

func TestSVN(t *testing.T) {
	ladder := NewDataset().QE
	for status, want := range map[attest.TCBStatus]uint8{"": 8, attest.UpToDate: 8, attest.OutOfDate: 6, attest.Revoked: 5,
		NotSupported: 4} {
		if got, ok := SVN(ladder, status); !ok || got != want {
			t.Errorf("%s: %d %t", status, got, ok)
		}
	}
	if _, ok := SVN(ladder, attest.ConfigurationNeeded); ok {
		t.Error("a status that the ladder has not")
	}
}
