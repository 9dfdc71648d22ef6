// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stream creates Marbles all the time, as busy controllers do.
type stream struct {
	in      *installation
	end     context.CancelFunc
	workers sync.WaitGroup

	mu       sync.Mutex
	created  int
	failures map[string]int // how often, by what the API server said
}

// keepCreating creates Pods, and deletes them, until stop. Failures before the first success do not count: nobody serves
// yet.
func (in *installation) keepCreating() *stream {
	ctx, end := context.WithCancel(in.Context())
	s := &stream{in: in, end: end, failures: map[string]int{}}
	for range 2 {
		s.workers.Go(func() { s.work(ctx) })
	}
	in.Cleanup(func() { // if the test did not come to stop
		s.end()
		s.workers.Wait()
	})
	return s
}

func (s *stream) work(ctx context.Context) {
	now := int64(0)
	pods := s.in.Kube.CoreV1().Pods(s.in.pods)
	for ctx.Err() == nil {
		pod, err := s.in.create(context.WithoutCancel(ctx), idle("stream-"), false)
		if err == nil {
			err = errors.Join(injected(pod),
				pods.Delete(context.WithoutCancel(ctx), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
		}
		s.count(err)
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *stream) count(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.created++
		return
	}
	if s.created > 0 {
		s.failures[err.Error()]++
	}
}

// more waits until n more Pods have been created.
func (s *stream) more(n int) {
	s.in.Helper()
	s.mu.Lock()
	want := s.created + n
	s.mu.Unlock()
	s.in.Eventually(fmt.Sprintf("%d more Pods are created", n), func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.created < want {
			return fmt.Errorf("%d are missing; failures: %v", want-s.created, s.failures)
		}
		return nil
	})
}

// stop ends it and returns how many Pods were created, and how often that failed, and why.
func (s *stream) stop() (created, failed int, why map[string]int) {
	s.end()
	s.workers.Wait()
	for _, n := range s.failures {
		failed += n
	}
	return s.created, failed, s.failures
}

// stopWithoutFailure is stop when nobody should have noticed anything.
func (s *stream) stopWithoutFailure(meanwhile string) {
	s.in.Helper()
	created, failed, why := s.stop()
	if failed > 0 || created == 0 {
		s.in.Errorf("%s: %d Pods were created, %d were not: %v", meanwhile, created, failed, why)
	}
	s.in.Figure("%s: %d Pods were created, %d were not", meanwhile, created, failed)
}
