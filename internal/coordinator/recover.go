// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/marblerun/marblerun/internal/shares"
	"github.com/marblerun/marblerun/internal/vault"
	"github.com/marblerun/marblerun/manifest"
)

// transportKeyBits is the size of the ephemeral key to which recovery secrets may be encrypted (client-api.md §10).
const transportKeyBits = 4096

// unsealing is the collector of recovery secrets of state 1. Who holds the setting token may use it; transportKey is safe
// for concurrent use.
type unsealing struct {
	collector *shares.Collector
	holders   []string // names of the recovery keys, sorted: the order of the collector's indexes
	// transportKey is made once, in the background.
	transportKey func() (*rsa.PrivateKey, error)
}

// newUnsealing prepares state 1: which secrets are needed, and which of them were uploaded before a restart.
func (c *Coordinator) newUnsealing(ctx context.Context, boot vault.Boot) *unsealing {
	u := &unsealing{transportKey: sync.OnceValues(func() (*rsa.PrivateKey, error) {
		return rsa.GenerateKey(rand.Reader, transportKeyBits)
	})}
	go u.transportKey()
	if boot.Recovery == nil {
		return u // no recovery keys, or nothing readable
	}
	var meta recoveryMeta
	if err := json.Unmarshal(boot.Recovery, &meta); err != nil {
		c.log.Error("Could not retrieve recovery data from state. All secrets must be tried in combination.", "error", err)
	}
	var hashes [][]byte
	u.holders = slices.Sorted(maps.Keys(meta.Shares))
	for _, name := range u.holders {
		hashes = append(hashes, meta.Shares[name])
	}
	var err error
	if u.collector, err = shares.NewCollector(shares.Scheme{N: meta.N, Threshold: meta.Threshold}, hashes); err != nil {
		c.log.Error("Could not retrieve recovery data from state. Recovery will be unavailable", "error", err)
		return u
	}
	u.restore(ctx, c)
	return u
}

// restore takes up the secrets that were uploaded before a restart.
func (u *unsealing) restore(ctx context.Context, c *Coordinator) {
	data, err := c.vault.LoadShares(ctx)
	if err == nil && data != nil {
		err = u.collector.Restore(data)
	}
	if err != nil {
		c.log.Warn("Recovery secrets uploaded before the restart cannot be used. Upload them again.", "error", err)
	}
	if given := u.given(); len(given) > 0 {
		c.log.Info("Recovery continues", "given", given, "remaining", u.collector.Remaining())
	}
}

// given names the holders whose secrets are here.
func (u *unsealing) given() []string {
	var names []string
	for _, i := range u.collector.Holders() {
		names = append(names, u.holders[i])
	}
	return names
}

// RecoveryPublicKey returns the ephemeral transport key, PKIX DER. State 1 only.
func (c *Coordinator) RecoveryPublicKey(context.Context) ([]byte, error) {
	u := c.phase.Load().unsealing
	if u == nil {
		return nil, errWrongState()
	}
	key, err := u.transportKey()
	if err != nil {
		return nil, refuse(Internal, "making the ephemeral key: %w", err)
	}
	return x509.MarshalPKIXPublicKey(key.Public())
}

// Recover takes one recovery secret, plain or encrypted to the transport key, and the holder's signature over the plain
// secret. It returns how many more are needed; 0 means that the state is open again.
func (c *Coordinator) Recover(ctx context.Context, secret, signature []byte) (int, error) {
	c.log.Info("Recover called")
	secret, err := c.plainShare(secret)
	if err != nil {
		return 0, err
	}
	release, err := c.settle(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	u := c.phase.Load().unsealing
	switch {
	case u == nil:
		return 0, errWrongState()
	case u.collector == nil:
		return 0, refuse(Invalid, "the sealed state cannot be recovered").
			hint("its manifest defines no recovery keys, or its header is damaged; see the status detail")
	}
	remaining, err := u.collector.Add(secret, signature)
	if err != nil {
		return 0, refuse(Invalid, "setting recovery key: %w", err)
	}
	if remaining == 0 || len(u.holders) == 0 {
		if err = c.unseal(ctx, u); err == nil {
			c.log.Info("Recover successful")
			return 0, nil
		}
		if !errors.Is(err, shares.ErrNotYet) {
			c.putBack(ctx, u, secret, err)
			return 0, err
		}
	}
	c.keepShares(ctx, u)
	c.log.Info("Recover: recovery incomplete, more keys needed", "remaining", remaining, "given", u.given())
	return remaining, nil
}

// plainShare decrypts a secret that was encrypted to the transport key.
func (c *Coordinator) plainShare(secret []byte) ([]byte, error) {
	if shares.IsPlain(secret) {
		return secret, nil
	}
	u := c.phase.Load().unsealing
	if u == nil {
		return nil, refuse(BadRequest, "failed to decrypt recovery secret: the Coordinator is not in recovery mode")
	}
	key, err := u.transportKey()
	if err != nil {
		return nil, refuse(Internal, "making the ephemeral key: %w", err)
	}
	plain, err := shares.Decrypt(secret, key)
	if err != nil {
		return nil, refuse(BadRequest, "failed to decrypt recovery secret: %w", err).
			hint("upload the decrypted secret (32 or 33 bytes), or encrypt it to the key of /api/v2/recover/public-key")
	}
	return plain, nil
}

// putBack leaves the collector so that recovery can go on after err: those who signed wrongly, or else whoever gave the
// last secret, give theirs again.
func (c *Coordinator) putBack(ctx context.Context, u *unsealing, secret []byte, err error) {
	if _, unsigned := errors.AsType[*shares.SignatureError](err); unsigned {
		c.keepShares(ctx, u) // forgets the bad ones also over a restart, and keeps the last one
		return
	}
	u.collector.Withdraw(secret)
}

// keepShares saves the uploaded secrets, so that they survive a restart where the TEE has a sealing key.
func (c *Coordinator) keepShares(ctx context.Context, u *unsealing) {
	data, err := u.collector.Marshal()
	if err == nil {
		err = c.vault.SaveShares(ctx, data)
	}
	if err != nil {
		c.log.Warn("Uploaded recovery secrets are kept in memory only: after a restart they must be uploaded again.",
			"given", u.given(), "error", err)
	}
}

// unseal opens the state with the collected secrets, if their signatures fit its manifest, and enters state 3.
func (c *Coordinator) unseal(ctx context.Context, u *unsealing) error {
	var s *State
	var signers []string
	var quote []byte
	_, err := u.collector.Search(ctx, func(secret []byte) (bool, error) {
		err := c.vault.RecoverIf(ctx, secret, func(stored vault.Replayer) (err error) {
			if s, err = replay(stored); err != nil {
				return err
			}
			if signers, err = checkSigners(u.collector, s.manifest.base); err != nil {
				return err
			}
			quote, err = c.issue(ctx, s.ca, nil)
			return err
		})
		if errors.Is(err, vault.ErrWrongKey) {
			return false, nil
		}
		return err == nil, err
	})
	var bad *shares.SignatureError
	switch {
	case errors.As(err, &bad):
		return refuse(Invalid, "recovery secret signature mismatch: %w", bad).
			hint("sign the decrypted secret with the private recovery key and upload it again")
	case errors.Is(err, shares.ErrNotYet) && len(u.holders) > 0:
		return refuse(Invalid, "the recovery secrets are those that sealed_data names, but they do not open it").
			hint("sealed_data was damaged or changed: restore it from a backup, and restart the Coordinator")
	case errors.Is(err, shares.ErrNotYet):
		return err
	case err != nil:
		return refuse(Internal, "recovering state: %w", err)
	}
	c.run(s, quote)
	c.noteRecovery(ctx, signers)
	return nil
}

// noteRecovery records who recovered, and forgets the uploaded secrets.
func (c *Coordinator) noteRecovery(ctx context.Context, signers []string) {
	if err := c.vault.DropShares(ctx); err != nil {
		c.log.Warn("Removing the uploaded recovery secrets failed", "error", err)
	}
	_, err := c.phase.Load().kernel.submit(ctx, "", func(*State) (outcome, error) {
		return outcome{events: []event{&recovered{Holders: signers}}}, nil
	})
	if err != nil {
		// The state is open: the caller's secret was good.
		c.log.Error("Recording the recovery failed", "error", err)
	}
}

// checkSigners matches the uploaded secrets' signatures with the recovery keys of the recovered manifest.
func checkSigners(collected *shares.Collector, m *manifest.Manifest) ([]string, error) {
	threshold, n := m.RecoveryScheme()
	return collected.CheckSignatures(shares.Scheme{N: n, Threshold: threshold}, signingKeys(m))
}

// signingKeys are the manifest's recovery keys, sorted by name.
func signingKeys(m *manifest.Manifest) []shares.Key {
	var keys []shares.Key
	for _, name := range slices.Sorted(maps.Keys(m.RecoveryKeys)) {
		if pub, err := manifest.ParseRecoveryKey(m.RecoveryKeys[name]); err == nil {
			keys = append(keys, shares.Key{Name: name, Public: pub})
		}
	}
	return keys
}
