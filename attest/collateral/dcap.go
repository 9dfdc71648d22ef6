// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest/collateral/internal/item"
	"github.com/marblerun/marblerun/attest/dcap"
)

const (
	// demotion is how long a service whose collateral was refused is asked last; distrustEvery how often it may be.
	demotion      = 10 * time.Minute
	distrustEvery = time.Minute
	// maxNotes bounds each of the maps of misses and trails.
	maxNotes = 4096
)

// trail says who served a need last, and when that was refused. Those of AMD's service are by URL.
type trail struct {
	endpoint   int
	distrusted time.Time
}

func trailKey(need DCAPNeed, d dataset) string {
	return fmt.Sprint(need.TEE, " ", need.FMSPC, " ", need.CA, " ", d)
}

// dcap asks one service after the other for all of the collateral.
func (f *Fetcher) dcap(ctx context.Context, need DCAPNeed, d dataset) (*dcap.Collateral, error) {
	admit, key := admission(need.Admit), trailKey(need, d)
	var col *dcap.Collateral
	err := f.patiently(ctx, func() error {
		var problems []error
		for _, i := range f.order(key) {
			found, err := f.from(ctx, f.endpoints[i], need, d, admit)
			if found != nil && col == nil {
				col = found
			}
			if err == nil {
				col = found
				f.note(key, trail{endpoint: i})
				return nil
			}
			problems = append(problems, fmt.Errorf("%s: %w", f.endpoints[i].name, err))
			if errors.As(err, &notAdmitted{}) {
				break
			}
		}
		return errors.Join(problems...)
	})
	// What no service has a CRL for is for the verification to refuse, or not.
	if err != nil && (col == nil || errors.Is(err, ErrUnavailable) && !need.CRLsOptional) {
		return nil, admitted(err)
	}
	return col, nil
}

// order is the endpoints, those that are distrusted last.
func (f *Fetcher) order(key string) []int {
	f.mu.Lock()
	t, ok := f.trails[key]
	f.mu.Unlock()
	var first, last []int
	for i := range f.endpoints {
		if ok && t.endpoint == i && f.cfg.Now().Sub(t.distrusted) < demotion {
			last = append(last, i)
		} else {
			first = append(first, i)
		}
	}
	return append(first, last...)
}

// note remembers who served a need, unless another one is still distrusted for it.
func (f *Fetcher) note(key string, t trail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cfg.Now().Sub(f.trails[key].distrusted) < demotion && t.distrusted.IsZero() {
		return
	}
	if len(f.trails) >= maxNotes {
		clear(f.trails)
	}
	f.trails[key] = t
}

// Distrust says that a verification refused the collateral that DCAP gave, for its own faults. It will be asked for
// anew, and of other services first. It returns false if that was done already a moment ago: then calling again is no
// use.
func (f *Fetcher) Distrust(need DCAPNeed) bool {
	d := dataset{f.cfg.Update, f.cfg.EvaluationNumber}
	key, now := trailKey(need, d), f.cfg.Now()
	f.mu.Lock()
	t, ok := f.trails[key]
	f.mu.Unlock()
	if !ok || now.Sub(t.distrusted) < distrustEvery {
		return false
	}
	for _, url := range f.endpoints[t.endpoint].urls(need, d) {
		f.memory.Suspect(url)
	}
	t.distrusted = now
	f.note(key, t)
	return true
}

// from gets all collateral from one endpoint. If it lacks only CRLs, it returns what there is, and an error.
func (f *Fetcher) from(ctx context.Context, ep endpoint, need DCAPNeed, d dataset, admit func() error) (
	*dcap.Collateral, error) {
	urls, got := ep.urls(need, d), map[item.Kind]*item.Item{}
	for _, k := range []item.Kind{item.TCBInfo, item.QEIdentity} {
		it, err := f.item(ctx, f.request(k, urls[k]), admit)
		if err != nil {
			return nil, explain(k, need, err)
		}
		got[k] = it
	}
	var problems []error
	for _, k := range []item.Kind{item.PCKCRL, item.RootCRL} {
		it, err := f.item(ctx, f.request(k, urls[k]), admit)
		if err != nil {
			problems = append(problems, explain(k, need, err))
			it = &item.Item{}
		}
		got[k] = it
	}
	return compose(got), errors.Join(problems...)
}

func compose(got map[item.Kind]*item.Item) *dcap.Collateral {
	info, identity, pck := got[item.TCBInfo], got[item.QEIdentity], got[item.PCKCRL]
	return &dcap.Collateral{
		TCBInfo: string(info.Body), TCBInfoSignature: info.Signature, TCBInfoIssuerChain: info.Chain,
		QEIdentity: string(identity.Body), QEIdentitySignature: identity.Signature, QEIdentityIssuerChain: identity.Chain,
		PCKCRL: pck.Body, PCKCRLIssuerChain: pck.Chain, RootCACRL: got[item.RootCRL].Body,
	}
}

// explain says what was wanted.
func explain(k item.Kind, need DCAPNeed, err error) error {
	switch {
	case errors.Is(err, ErrUnknown) && k == item.TCBInfo:
		return fmt.Errorf("%s TCB info of FMSPC %s is not known there: %w", strings.ToUpper(string(need.TEE)),
			need.FMSPC, err)
	case k == item.TCBInfo:
		return fmt.Errorf("%s of FMSPC %s: %w", k, need.FMSPC, err)
	}
	return fmt.Errorf("%s: %w", k, err)
}
