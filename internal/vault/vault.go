// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package vault keeps the Coordinator's records: it seals them, chains them,
// stores them with a journal driver and decides at start-up whether they may
// be opened here.
//
// A directory holds at most
//
//	sealed_data    the journal: header, snapshot, records (journal/file)
//	sealed_key     the data key, sealed for this machine's TEE, and a watermark (seal.KeyFile)
//	sealed_shares  recovery shares uploaded so far, sealed for this program
//	*.dropped      state that was set aside: nothing is ever overwritten or deleted in silence
//	*.tmp          files being written, worthless after a crash
//
// and nothing at all before the first manifest is set, except for the lock on
// the directory itself.
//
// Invariants:
//
//   - What Append, Create, Rekey and SetSealMode have returned from is durable,
//     and each of them is, after a crash at any moment, done or not done.
//   - Record n is sealed with AES-256-GCM under the data key of its epoch; its
//     additional data is format ‖ journal id ‖ epoch ‖ n ‖ chain hash of record
//     n-1. A gap, a swap, a cut or a wrong key is found when records are read,
//     and all records are checked at start.
//   - The unauthenticated header is repeated inside the snapshot and compared.
//   - The files never hold a key in clear. (TEE kind "simulation" seals with a
//     constant and so protects nothing.)
//   - State that was written in a TEE is not touched by a simulation; state
//     that was written in a simulation is not opened in a TEE.
//
// Phases: Fresh (no state), Sealed (state that cannot be opened here, with the
// reason) and Ready. Create leads from Fresh or Sealed to Ready, Recover from
// Sealed to Ready; nothing leads back.
//
// Concurrency: Append, Rekey and SetSealMode belong to one writer. Snapshot
// may run beside it in another goroutine. Everything else may be called by
// anybody. Formats, and what each kind of tampering leads to:
// docs/design/journal.md.
package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

// Errors that a caller tells apart.
var (
	// ErrFull: no space. Nothing was written; reading goes on, and writing may succeed later.
	ErrFull = journal.ErrFull
	// ErrBroken: a sync failed. What is durable is unknown: the process must end and replay at its next start.
	ErrBroken = journal.ErrBroken
	// ErrConflict: the position does not follow the last record.
	ErrConflict = journal.ErrConflict
	// ErrWrongKey: the recovery secret opens nothing here.
	ErrWrongKey = seal.ErrWrongKey
	// ErrNoRecovery: recovery is not possible, whatever the secret; the error says why.
	ErrNoRecovery = errors.New("this state cannot be recovered")
	// ErrPhase: the vault is not in a phase in which this can be done.
	ErrPhase = errors.New("not possible in this phase")
	// ErrNoSealer: this TEE has no sealing key.
	ErrNoSealer = errors.New("this TEE has no sealing key")
)

// Error is an error with advice.
type Error struct {
	Err  error
	Hint string // what to do, a sentence
}

func (e *Error) Error() string { return e.Err.Error() + " (" + e.Hint + ")" }

// Unwrap returns the error without the advice.
func (e *Error) Unwrap() error { return e.Err }

// Simulation is the TEE kind of a Coordinator without a TEE.
const Simulation = "simulation"

// Seal modes, as in the manifest. The empty string means ProductKey.
const (
	ProductKey = sealed.ProductKey
	UniqueKey  = sealed.UniqueKey
	Disabled   = sealed.Disabled
)

// Phase is how far the vault is open.
type Phase int

// The phases.
const (
	Fresh  Phase = iota // no state
	Sealed              // state that cannot be opened here: Boot.Reason
	Ready               // open
)

func (p Phase) String() string { return [...]string{"fresh", "sealed", "ready"}[p] }

// Config is what a vault needs to know.
type Config struct {
	Dir     string       // created with mode 0700, with its parents
	TEE     string       // kind of TEE this process runs in: "simulation", "sgx", "snp", "tdx"
	Sealers seal.Sealers // of this process; members may be nil
	Now     func() time.Time
	Log     *slog.Logger // nil: no log
	FS      journal.FS   // nil: the operating system's
	Rand    io.Reader    // keys, ids and salts; nil: crypto/rand. Nonces always come from crypto/rand

	// HistoryLimit is how many bytes of sealed records a snapshot retains; 0: 64 MiB. Records after
	// the snapshot are retained always.
	HistoryLimit int64
	// TailLimit is how many bytes of sealed records may follow a snapshot before the next one is due; 0: 8 MiB.
	TailLimit int64
}

const (
	defaultHistoryLimit = 64 << 20
	defaultTailLimit    = 8 << 20
	watermarkInterval   = time.Second
)

// Boot is what Open found.
type Boot struct {
	Phase    Phase
	Reason   string // Sealed: why, for people
	Recovery []byte // Sealed: the RecoveryMeta of the state, nil if it is unreadable or has no recovery slot
	Foreign  bool   // Sealed: sealed_data was written by MarbleRun
}

// Record is one record, opened.
type Record struct {
	Position uint64 // counts from 1, the genesis
	Payload  []byte // belongs to the receiver
}

// Vault is open until Close.
type Vault struct {
	cfg      Config
	dir      statedir.Dir
	interval time.Duration // at least this long between two watermarks
	lock     io.Closer

	// Locks, in this order.
	swap    sync.Mutex // one replacement of files at a time: Create, Recover, Snapshot, Rekey, SetSealMode
	writing sync.Mutex // one writer
	keys    sync.Mutex // sealed_key and what is known of it
	mu      sync.Mutex // the fields below

	stored []seal.EpochKeys // what sealed_key has; under keys

	phase  Phase
	found  *statedir.Found // Sealed
	epoch  *epoch          // Ready
	at     sealed.Cursor   // Ready
	broken error
	closed bool
	timer  *time.Timer // armed: a watermark is due
	marked time.Time   // when the last one was written
	mark   uint64      // and which position it named
}

func newVault(cfg Config) (*Vault, error) {
	if cfg.Dir == "" || cfg.TEE == "" {
		return nil, errors.New("vault: Dir and TEE must be given")
	}
	for _, s := range []seal.Sealer{cfg.Sealers.Product, cfg.Sealers.Unique} {
		if s != nil && cfg.TEE != Simulation && strings.HasPrefix(s.Name(), seal.SimulationPrefix) {
			return nil, fmt.Errorf("vault: sealer %s must not be used in a TEE of kind %s", s.Name(), cfg.TEE)
		}
	}
	if cfg.FS == nil {
		cfg.FS = journal.OS()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HistoryLimit == 0 {
		cfg.HistoryLimit = defaultHistoryLimit
	}
	if cfg.TailLimit == 0 {
		cfg.TailLimit = defaultTailLimit
	}
	dir := statedir.Dir{FS: cfg.FS, Name: cfg.Dir, Log: cfg.Log}
	return &Vault{cfg: cfg, dir: dir, interval: watermarkInterval, marked: cfg.Now()}, nil
}

// current returns the open epoch and the end of its log.
func (v *Vault) current() (*epoch, sealed.Cursor, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.usable(); err != nil {
		return nil, sealed.Cursor{}, err
	}
	return v.epoch, v.at, nil
}

// usable reports why the vault cannot be used; the caller holds v.mu.
func (v *Vault) usable() error {
	switch {
	case v.closed:
		return journal.ErrClosed
	case v.phase != Ready:
		return fmt.Errorf("%w: the vault is %s", ErrPhase, v.phase)
	}
	return nil
}

// view is current with an unchanging reader of the log.
func (v *Vault) view() (*epoch, sealed.Cursor, journal.Reader, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.usable(); err != nil {
		return nil, sealed.Cursor{}, nil, err
	}
	r, err := v.epoch.Driver.Reader()
	return v.epoch, v.at, r, err
}

// check remembers that the storage failed for good.
func (v *Vault) check(err error) error {
	if errors.Is(err, ErrBroken) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.broken == nil {
			v.broken = err
		}
	}
	return err
}

// writable refuses writing after the storage failed.
func (v *Vault) writable() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.broken
}

// adopt makes an epoch the current one.
func (v *Vault) adopt(next *epoch, at sealed.Cursor) {
	v.mu.Lock()
	old := v.epoch
	v.phase, v.found, v.epoch, v.at = Ready, nil, next, at
	v.mu.Unlock()
	if old != nil && old.Driver != next.Driver {
		if err := old.Driver.Close(); err != nil {
			v.cfg.Log.Warn("Closing the replaced journal failed", "error", err)
		}
	}
}

// Close writes a last watermark, closes the files and frees the directory.
func (v *Vault) Close(ctx context.Context) error {
	v.swap.Lock()
	defer v.swap.Unlock()
	v.writing.Lock()
	defer v.writing.Unlock()
	v.keys.Lock()
	defer v.keys.Unlock()
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil
	}
	v.closed = true
	if v.timer != nil {
		v.timer.Stop()
	}
	e, last, broken := v.epoch, v.at.Last, v.broken
	v.mu.Unlock()
	var err error
	if e != nil && broken == nil && v.mark != last {
		err = v.writeMark()
	}
	if e != nil {
		err = errors.Join(err, e.Driver.Close())
	}
	return errors.Join(err, v.lock.Close())
}
