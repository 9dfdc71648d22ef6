// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"fmt"
	"sync"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
)

// earlySource is a Source that also has Intel's early data set.
type earlySource interface {
	Early(context.Context, collateral.DCAPNeed) (*dcap.Collateral, error)
}

// runner is a Source that keeps itself fresh.
type runner interface {
	Run(context.Context) error
}

const (
	earlyQueue = 256
	maxSeen    = 4096
)

// earlyJob is a quote to be rated by the early data set as well.
type earlyJob struct {
	quote []byte
	need  collateral.DCAPNeed
	now   attest.Claims
	key   string
}

// earlyWatch is the queue of quotes to be compared, and the platforms that were.
type earlyWatch struct {
	jobs chan earlyJob
	mu   *sync.Mutex
	seen map[string]bool
}

func newEarlyWatch() earlyWatch {
	return earlyWatch{jobs: make(chan earlyJob, earlyQueue), mu: &sync.Mutex{}, seen: map[string]bool{}}
}

// Run keeps collateral fresh and watches the early data set, until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	var err error
	if r, ok := v.source.(runner); ok {
		wg.Go(func() { err = r.Run(ctx) })
	}
	for ctx.Err() == nil {
		select {
		case job := <-v.early.jobs:
			v.compare(ctx, job)
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return err
}

// watch queues a quote of a platform that was not compared yet under the data set that decided. A full queue forgets: a
// platform comes again.
func (v *Verifier) watch(quote []byte, need collateral.DCAPNeed, now *attest.Claims) {
	if _, ok := v.source.(earlySource); !ok || !v.cfg.WatchEarly {
		return
	}
	key := fmt.Sprint(now.TEE, now.Machine, now.TCBStatus, now.TCBEvaluationDataNumber, now.QEEvaluationDataNumber)
	v.early.mu.Lock()
	defer v.early.mu.Unlock()
	if v.early.seen[key] {
		return
	}
	select {
	case v.early.jobs <- earlyJob{quote, need, *now, key}:
	default:
		return
	}
	if len(v.early.seen) >= maxSeen {
		clear(v.early.seen)
	}
	v.early.seen[key] = true
}

// compare rates a quote by the early data set and tells if its status would change.
func (v *Verifier) compare(ctx context.Context, job earlyJob) {
	col, err := v.source.(earlySource).Early(ctx, job.need)
	if err != nil {
		v.cfg.Log.Debug("the early TCB data set cannot be had", "fmspc", job.need.FMSPC, "error", err)
		v.early.mu.Lock()
		defer v.early.mu.Unlock()
		delete(v.early.seen, job.key) // the next quote of the platform tries again
		return
	}
	early := rated(v.verifyQuote(job.quote, col))
	if early == nil || early.TCBStatus == job.now.TCBStatus {
		return
	}
	change := EarlyChange{TEE: early.TEE, Machine: early.Machine, Status: job.now.TCBStatus, EarlyStatus: early.TCBStatus,
		EvaluationNumber: job.now.TCBEvaluationDataNumber, EarlyEvaluationNumber: early.TCBEvaluationDataNumber,
		Short: early.Short}
	v.cfg.Log.Warn("a machine's TCB status will change when Intel's early TCB data becomes the standard: update it",
		"machine", early.Machine.String(), "status", string(change.Status), "earlyStatus", string(change.EarlyStatus),
		"evaluationNumber", change.EvaluationNumber, "earlyEvaluationNumber", change.EarlyEvaluationNumber,
		"short", early.Short)
	if v.cfg.OnEarlyChange != nil {
		v.cfg.OnEarlyChange(change)
	}
}
