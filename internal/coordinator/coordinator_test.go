// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/rand"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/seal"
)

// testConfig is a Coordinator in simulation on the given directory.
func testConfig(dir string) Config {
	return Config{
		SealDir: dir, DNSNames: []string{"localhost", "coordinator"}, Simulation: true, TEE: "simulation",
		Sealers: seal.Simulation(), FeatureEnvironment: func(string) string { return "" },
		Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func newTestCoordinator(t testing.TB, dir string) *Coordinator {
	t.Helper()
	c, err := New(t.Context(), testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
