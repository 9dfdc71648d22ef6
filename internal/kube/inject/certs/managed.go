// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
)

const (
	// interval between looks at the cluster: how long a reset CA bundle can stay wrong.
	interval = 10 * time.Second
	// attempts at a change that other replicas make, too.
	attempts = 8
)

// Cluster is the part of the API server that is needed. *kubeapi.Client implements it.
type Cluster interface {
	Secret(ctx context.Context, namespace, name string) (kubeapi.Secret, error)
	CreateSecret(ctx context.Context, namespace, name string, data map[string][]byte) error
	PatchSecret(ctx context.Context, namespace, name, version string, data map[string][]byte) error
	Webhooks(ctx context.Context, name string) (kubeapi.Webhooks, error)
	PatchCABundle(ctx context.Context, name, version string, at []int, bundle []byte) error
}

// ManagedConfig of Managed.
type ManagedConfig struct {
	Cluster Cluster
	// Namespace of the Secret and the Service.
	Namespace string
	// Secret is the name of the Secret that keeps the CA. It may exist, empty; else it is created.
	Secret string
	// Webhooks is the name of the MutatingWebhookConfiguration whose CA bundle is kept in step.
	Webhooks string
	// Service is the name by which the API server calls; ClusterDomain is the end of its full name.
	Service, ClusterDomain string
	// ServingLife and CALife are how long certificates and CAs are valid.
	ServingLife, CALife time.Duration
	Now                 func() time.Time
	Log                 *slog.Logger
	Observer            Observer
}

// Managed serves with certificates of a CA of its own. Sync and Run are for one goroutine.
type Managed struct {
	cfg     ManagedConfig
	current atomic.Pointer[tls.Certificate]
	// signer is the CA that is known to be trusted; it can renew certificates while the API server is away.
	signer *authority
	// unused is true while no webhook calls this injector.
	unused bool
}

// NewManaged returns a Managed without a certificate; Sync gets the first one.
func NewManaged(cfg ManagedConfig) *Managed { return &Managed{cfg: cfg} }

// Certificate is the current one, nil before the first.
func (m *Managed) Certificate() *tls.Certificate { return m.current.Load() }

// Run looks after the certificate until ctx ends.
func (m *Managed) Run(ctx context.Context) {
	var backoff time.Duration
	for {
		pause := interval
		err := m.Sync(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			backoff = 0
		default:
			backoff = min(max(2*backoff, time.Second), interval)
			pause = backoff
			m.cfg.Observer.CertificateFailed()
			m.cfg.Log.Error("Cannot look after the serving certificate; trying again", "error", err, "after", pause.String())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Sync brings CA, webhook configuration and serving certificate to where they should be now. When it fails, the
// certificate is still renewed as long as the last known CA is valid.
func (m *Managed) Sync(ctx context.Context) error {
	err := kubeapi.ErrConflict
	for try := 0; try < attempts && errors.Is(err, kubeapi.ErrConflict); try++ {
		err = m.agree(ctx)
	}
	return errors.Join(err, m.renew())
}

// agree brings Secret and webhook configuration in step. The configuration is read before the Secret, and changed only
// if it has not changed since: so a bundle never goes back behind what another replica wrote.
func (m *Managed) agree(ctx context.Context) error {
	hooks, err := m.cfg.Cluster.Webhooks(ctx, m.cfg.Webhooks)
	absent := errors.Is(err, kubeapi.ErrNotFound)
	if err != nil && !absent {
		return fmt.Errorf("reading the webhook configuration: %w%s", err, m.hint(err))
	}
	ours := m.ours(hooks)
	trusted := func(c *x509.Certificate) bool {
		return !slices.ContainsFunc(ours, func(i int) bool { return !holds(hooks.Webhooks[i].CABundle, c) })
	}
	s, err := m.advance(ctx, trusted)
	if err != nil {
		return err
	}
	if trusted(s.current.cert) {
		m.signer = s.current // whatever becomes of the bundle below
	}
	m.complain(absent || len(ours) == 0)
	bundle := s.bundle()
	stale := slices.DeleteFunc(ours, func(i int) bool { return bytes.Equal(hooks.Webhooks[i].CABundle, bundle) })
	if len(stale) > 0 {
		if err := m.cfg.Cluster.PatchCABundle(ctx, m.cfg.Webhooks, hooks.Version, stale, bundle); err != nil {
			return fmt.Errorf("writing the CA bundle: %w%s", err, m.hint(err))
		}
		m.cfg.Log.Info("Wrote the CA bundle of the webhook configuration", "name", m.cfg.Webhooks, "webhooks", len(stale))
	}
	m.signer = s.current
	return nil
}

// complain tells once that nobody calls this injector.
func (m *Managed) complain(unused bool) {
	if unused && !m.unused {
		m.cfg.Log.Warn("No webhook calls this injector yet: there is no such webhook configuration, or none of its "+
			"webhooks names the Service", "configuration", m.cfg.Webhooks, "service", m.cfg.Namespace+"/"+m.cfg.Service)
	}
	m.unused = unused
}

// ours are the positions of the webhooks that call this injector.
func (m *Managed) ours(hooks kubeapi.Webhooks) (at []int) {
	for i, hook := range hooks.Webhooks {
		if hook.Namespace == m.cfg.Namespace && hook.Service == m.cfg.Service {
			at = append(at, i)
		}
	}
	return at
}

// advance reads the Secret and brings it to where it should be now.
func (m *Managed) advance(ctx context.Context, trusted func(*x509.Certificate) bool) (store, error) {
	secret, err := m.cfg.Cluster.Secret(ctx, m.cfg.Namespace, m.cfg.Secret)
	absent := errors.Is(err, kubeapi.ErrNotFound)
	if err != nil && !absent {
		return store{}, fmt.Errorf("reading the CA: %w%s", err, m.hint(err))
	}
	s, broken := readStore(secret.Data)
	if broken != nil {
		m.cfg.Log.Error("Part of the CA's Secret cannot be used and is replaced", "secret", m.cfg.Secret, "error", broken)
	}
	s, what, err := s.step(m.cfg.Now(), m.cfg.CALife, trusted)
	if err != nil || (what == "" && broken == nil) {
		return s, err
	}
	data, err := s.data()
	if err != nil {
		return store{}, err
	}
	if absent {
		err = m.cfg.Cluster.CreateSecret(ctx, m.cfg.Namespace, m.cfg.Secret, data)
	} else {
		err = m.cfg.Cluster.PatchSecret(ctx, m.cfg.Namespace, m.cfg.Secret, secret.Version, data)
	}
	if err != nil {
		return store{}, fmt.Errorf("writing the CA: %w%s", err, m.hint(err))
	}
	m.cfg.Log.Info("Changed the CA", "what", what, "secret", m.cfg.Secret, "subject", s.current.cert.Subject.CommonName,
		"notAfter", s.current.cert.NotAfter)
	return s, nil
}

func (m *Managed) hint(err error) string {
	if !errors.Is(err, kubeapi.ErrForbidden) {
		return ""
	}
	return fmt.Sprintf(" (the service account needs get and patch on the Secret %s/%s and on the "+
		"MutatingWebhookConfiguration %s)", m.cfg.Namespace, m.cfg.Secret, m.cfg.Webhooks)
}

// renew makes another serving certificate if there is none, if 2/3 of its life are over, or if another CA signs now.
func (m *Managed) renew() error {
	now := m.cfg.Now()
	if m.signer == nil || now.After(m.signer.cert.NotAfter) {
		return nil // agree has said why
	}
	if c := m.Certificate(); c != nil && !passed(c.Leaf, now, 2, 3) && c.Leaf.CheckSignatureFrom(m.signer.cert) == nil {
		return nil
	}
	name := m.cfg.Service + "." + m.cfg.Namespace
	names := []string{name + ".svc", name, m.cfg.Service, name + ".svc." + m.cfg.ClusterDomain}
	c, err := m.signer.issue(now, m.cfg.ServingLife, names)
	if err != nil {
		return err
	}
	m.current.Store(c)
	m.cfg.Observer.Certificate(c.Leaf.NotAfter, m.signer.cert.NotAfter)
	m.cfg.Log.Info("New serving certificate", "names", names, "notAfter", c.Leaf.NotAfter,
		"ca", m.signer.cert.Subject.CommonName)
	return nil
}
