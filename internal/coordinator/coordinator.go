// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/internal/vault"
)

// Coordinator is the control plane of one deployment.
type Coordinator struct {
	cfg   Config
	log   *slog.Logger
	vault *vault.Vault
	fatal chan error

	phase atomic.Pointer[phase]
	// setting holds one token: whoever prepares or makes a transition between phases has it. Waiting for it is
	// cancellable, unlike a mutex.
	setting chan struct{}
	// keyWork holds a token for each slow key generation that may run.
	keyWork chan struct{}
}

// phase is what the Coordinator is between two transitions: sealed (state 1), fresh (state 2) or running (state 3).
type phase struct {
	code   int
	detail string
	// ca is temporary in state 1, not yet persisted in state 2, and nil in state 3: there the state has it.
	ca     *pki.CA
	kernel *kernel
	// quote is this process's evidence over the root certificate; nil in simulation.
	quote []byte
	// unsealing collects recovery shares in state 1.
	unsealing *unsealing
}

func (p *phase) authority() *pki.CA {
	if p.kernel != nil {
		return p.kernel.state.Load().ca
	}
	return p.ca
}

// New opens the state directory and enters state 1, 2 or 3. An error is fatal to the process; it has a hint.
func New(ctx context.Context, cfg Config) (*Coordinator, error) {
	c := &Coordinator{
		cfg: cfg, log: cfg.Log, fatal: make(chan error, 1),
		setting: make(chan struct{}, 1), keyWork: make(chan struct{}, max(1, cfg.KeyWorkers)),
	}
	v, boot, err := vault.Open(ctx, vault.Config{
		Dir: cfg.SealDir, TEE: cfg.TEE, Sealers: cfg.Sealers, Now: cfg.Now, Log: cfg.Log,
		HistoryLimit: cfg.HistoryLimit, Rand: cfg.Rand,
	})
	if err != nil {
		return nil, fmt.Errorf("opening state directory %s: %w", cfg.SealDir, err)
	}
	c.vault = v
	if err := c.enter(ctx, boot); err != nil {
		return nil, fmt.Errorf("cannot create Coordinator core: %w", firstError(err, v.Close(ctx)))
	}
	return c, nil
}

// enter makes the first phase of the process.
func (c *Coordinator) enter(ctx context.Context, boot vault.Boot) error {
	if boot.Phase == vault.Ready {
		s, err := replay(func(state func([]byte) error, record func(vault.Record) error) error {
			return c.vault.Replay(ctx, state, record)
		})
		if err == nil {
			quote, err := c.issue(ctx, s.ca, nil)
			if err == nil {
				c.run(s, quote)
			}
			return err
		}
		boot = vault.Boot{Phase: vault.Sealed, Reason: err.Error()}
	}
	ca, err := pki.New(c.pkiOptions())
	if err != nil {
		return err
	}
	p := &phase{code: StateAcceptingManifest, ca: ca}
	if boot.Phase == vault.Sealed {
		p.code, p.detail = StateRecovery, boot.Reason
		p.unsealing = c.newUnsealing(ctx, boot)
		c.log.Error("Failed to decrypt sealed state. Proceeding with a new state. Use the /api/v2/recover endpoint to "+
			"load the old state, or set a new manifest, which sets the old state aside. Look up the documentation for "+
			"more information on how to proceed.", "reason", boot.Reason)
	} else {
		c.log.Info("No sealed state found. Proceeding with new state.")
	}
	return c.publish(ctx, p)
}

func (c *Coordinator) pkiOptions() pki.Options {
	return pki.Options{DNSNames: c.cfg.DNSNames, IPs: c.cfg.IPs, Now: c.cfg.Now(), Rand: c.cfg.Rand}
}

// replay rebuilds the state from what is stored.
func replay(stored vault.Replayer) (*State, error) {
	s := &State{}
	err := stored(func(data []byte) (err error) {
		s, err = decodeSnapshot(data)
		return err
	}, func(r vault.Record) error {
		rec, err := decodeRecord(r.Payload)
		if err == nil {
			err = rec.resolve()
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", r.Position, err)
		}
		s = s.apply(rec, r.Position)
		return nil
	})
	if err == nil && s.manifest == nil {
		err = fmt.Errorf("the journal does not begin with a manifest")
	}
	return s, err
}

// run enters state 3 with evidence over the state's root certificate.
func (c *Coordinator) run(s *State, quote []byte) {
	k := newKernel(c.vault, s, c.cfg.Now, c.log, c.fatal)
	c.phase.Store(&phase{code: StateAcceptingMarbles, kernel: k, quote: quote})
}

// publish obtains evidence over the phase's root certificate and makes the phase current.
func (c *Coordinator) publish(ctx context.Context, p *phase) (err error) {
	if p.quote, err = c.issue(ctx, p.authority(), nil); err != nil {
		return err
	}
	c.phase.Store(p)
	return nil
}

// running returns the kernel if the state is 3.
func (c *Coordinator) running() (*kernel, error) {
	if k := c.phase.Load().kernel; k != nil {
		return k, nil
	}
	return nil, errWrongState()
}

// errWrongState's text is part of the contract.
func errWrongState() error { return refuse(WrongState, "server is not in expected state") }

// settle waits until this request may change the phase. The returned function ends that.
func (c *Coordinator) settle(ctx context.Context) (release func(), err error) {
	select {
	case c.setting <- struct{}{}:
		return func() { <-c.setting }, nil
	case <-ctx.Done():
		return nil, refuse(Unavailable, "waiting for another request that changes the manifest: %w", ctx.Err())
	}
}

// ClientTLS is the identity of the client API: the root certificate alone.
func (c *Coordinator) ClientTLS() *tls.Certificate {
	ca := c.phase.Load().authority()
	return &tls.Certificate{Certificate: [][]byte{ca.Root.Raw}, PrivateKey: ca.RootKey, Leaf: ca.Root}
}

// MeshTLS is the identity of the Marble API: the Marble Root certificate alone.
func (c *Coordinator) MeshTLS() *tls.Certificate {
	ca := c.phase.Load().authority()
	return &tls.Certificate{Certificate: [][]byte{ca.MarbleRoot.Raw}, PrivateKey: ca.IntermediateKey, Leaf: ca.MarbleRoot}
}

// Fatal delivers the error after which the process must exit 1: the journal can no longer be trusted to be written.
func (c *Coordinator) Fatal() <-chan error { return c.fatal }

// Close finishes what is being written and releases the state directory.
func (c *Coordinator) Close(ctx context.Context) error {
	release, err := c.settle(ctx)
	if err != nil {
		return err
	}
	defer release()
	if k := c.phase.Load().kernel; k != nil {
		k.close()
	}
	return c.vault.Close(ctx)
}
