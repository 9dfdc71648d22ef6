// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package tee seals the data key with the keys of real TEEs: it implements
// seal.Sealer for Gramine and for AMD SEV-SNP.
//
//	               product key                            unique key
//	Gramine        MRSIGNER, product id, SVN              MRENCLAVE, product id, SVN
//	SNP            policy, image id, family id, SVN, TCB  the same and the measurement
//	SNP (default)  as the unique key, see below           the same and the measurement
//	TDX, others    none: the state opens by recovery
//
// Invariants:
//   - A key never leaves the process, and no key of the TEE is used as it is: every sealed blob has its own AES-256
//     key, HKDF-SHA256(key of the TEE, salt, label of the sealer).
//   - What the blob says about how its key is derived is the host's to write. It is part of the additional data, and
//     it is only followed where it is at least as strict as what this process itself would seal with.
//   - Whether and how a key is derived is decided by what the security processor or the library OS says, never by
//     what the host could have said.
//   - A key of zeros is refused.
//
// # Gramine
//
// Gramine derives both keys with EGETKEY for the current CPUSVN, ISVSVN and CONFIGSVN of the running enclave (and
// masks of attributes), and offers no older ones. So a blob opens only where all of these are equal: another machine,
// another signer or enclave, another product id, but also a lower and, unlike MarbleRun on EGo, a higher ISVSVN, and a
// microcode update that changes the CPUSVN, give another key. The state then opens by recovery.
//
// The files are believed because this process runs in Gramine, which puts them there. For therefore looks at them
// only if the source of evidence is Gramine: elsewhere, files of these names could be the host's.
//
// # SEV-SNP
//
// The security processor derives keys (SEV-SNP firmware ABI, MSG_KEY_REQ) from the chip's key and from what is
// selected of the guest's launch data. Guest SVN and TCB version are chosen by the guest, up to its own: so a guest
// that was updated derives the older guest's key from the numbers in the blob, and not the other way round.
//
// Launch data means something only if somebody vouches for it. Image id, family id and SVN come from the ID block,
// which anybody may sign with a key of his own, and it is not certain for all firmware that the digest of the ID
// key is mixed in always. A guest that the host made up could then have the same product key. Hence the default: the
// product key includes the measurement, as the unique key does, and an updated guest opens its state by recovery.
// Config.SNPProductByIDBlock leaves the measurement out, for those who know their firmware; it is refused without an
// ID block, since then any guest of the same policy would have the key.
//
// A provider that masks the chip's key and installs its own (VLEK) gives the same key to the same guest on all of
// its machines. That key is taken only if the firmware refuses the chip's.
package tee

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/seal"
)

// Source is where this process gets its evidence: an issue.Issuer. Its name says which interface is there.
type Source interface {
	Name() string
	TEE() attest.TEE
}

// The names of sources that come with sealing keys (package attest/issue).
const (
	sourceGramine = "gramine"
	sourceTSM     = "configfs-tsm" // a Linux guest
)

// Config says where the keys are.
type Config struct {
	// Root is put before every path of the file system, for tests; "" is "/".
	Root string
	// SNPProductByIDBlock: the product key of SNP survives updates of the guest; see the package comment.
	SNPProductByIDBlock bool
	Rand                io.Reader    // for salts; nil: crypto/rand. Nonces always come from crypto/rand
	Log                 *slog.Logger // nil: no log

	open func(path string) (device, error) // nil: the operating system's
}

// For returns the sealers of the TEE that this process runs in. Its members are nil if the TEE has no sealing keys or
// shows none here; the log says so. An error means that the keys are there and cannot be used: going on would lose
// the state at the next start.
func For(ctx context.Context, source Source, cfg Config) (seal.Sealers, error) {
	cfg = cfg.withDefaults()
	if err := ctx.Err(); err != nil {
		return seal.Sealers{}, err
	}
	var sealers seal.Sealers
	err := errNone
	switch {
	case source.Name() == sourceGramine && source.TEE() == attest.SGX:
		sealers, err = gramineSealers(cfg)
	case source.Name() == sourceTSM && source.TEE() == attest.SNP:
		sealers, err = snpSealers(cfg)
	}
	if errors.Is(err, errNone) || errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("This TEE shows no sealing keys. The state opens by recovery",
			"tee", source.TEE(), "source", source.Name(), "reason", err.Error())
		return seal.Sealers{}, nil
	}
	return sealers, err
}

var errNone = errors.New("there is no interface for them")

func (c Config) withDefaults() Config {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.open == nil {
		c.open = openDevice
	}
	return c
}
