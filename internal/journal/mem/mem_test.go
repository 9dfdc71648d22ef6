// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"testing"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/journaltest"
	"github.com/marblerun/marblerun/internal/journal/mem"
)

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(*testing.T) func() journal.Driver {
		d := new(mem.Driver)
		return func() journal.Driver { return d }
	})
}
