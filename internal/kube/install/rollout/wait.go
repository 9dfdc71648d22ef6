// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"github.com/marblerun/marblerun/api"
)

// Interval is the time between two looks.
const Interval = time.Second

// Wait looks until all parts are there, telling each look to report, and returns the last. It looks at once, and once
// more when the time is up, so that being there at the last moment counts; with a timeout of 0 it looks once. A part
// that is not there then is an error with a hint. A Deployment that does not exist is not waited for: nothing that
// runs would make it.
func Wait(
	ctx context.Context, client kubernetes.Interface, namespace string, parts []Part, timeout time.Duration,
	report func([]Status),
) ([]Status, error) {
	deadline := time.Now().Add(timeout)
	for first := true; ; first = false {
		statuses, err := lookAll(ctx, client, namespace, parts)
		if err == nil {
			report(statuses)
		}
		left := time.Until(deadline)
		switch {
		case ctx.Err() != nil:
			return statuses, ctx.Err()
		case err != nil && (first || left <= 0 || apierrors.IsForbidden(err)):
			return statuses, err
		case err == nil && allDone(statuses):
			return statuses, nil
		case err == nil && !allFound(statuses):
			return statuses, notFound(statuses, namespace)
		case err == nil && left <= 0:
			return statuses, notThere(statuses, namespace, timeout)
		}
		select {
		case <-ctx.Done():
			return statuses, ctx.Err()
		case <-time.After(min(left, Interval)):
		}
	}
}

func lookAll(ctx context.Context, client kubernetes.Interface, namespace string, parts []Part) ([]Status, error) {
	var all []Status
	for _, part := range parts {
		status, err := Look(ctx, client, namespace, part)
		if err != nil {
			return all, err
		}
		all = append(all, status)
	}
	return all, nil
}

func allDone(statuses []Status) bool {
	for _, s := range statuses {
		if !s.Done {
			return false
		}
	}
	return true
}

func allFound(statuses []Status) bool {
	return !slices.ContainsFunc(statuses, func(s Status) bool { return !s.Found })
}

// notFound is the error of the parts that do not exist.
func notFound(statuses []Status, namespace string) error {
	var errs []error
	for _, s := range statuses {
		if !s.Found {
			errs = append(errs, errors.New(s.String()))
		}
	}
	return api.WithHint(errors.Join(errs...),
		fmt.Sprintf("Install it with 'marblerun install', or name another namespace than %s with -n.", namespace))
}

// notThere is the error of the parts that are not there in time, with the most helpful hint.
func notThere(statuses []Status, namespace string, timeout time.Duration) error {
	var errs []error
	hint := ""
	for _, s := range statuses {
		if s.Done {
			continue
		}
		errs = append(errs, s.notThere(timeout))
		for _, r := range s.Reasons {
			if hint == "" {
				hint = r.Hint
			}
		}
	}
	if hint == "" {
		hint = fmt.Sprintf("More is shown by: kubectl -n %s describe pods", namespace)
	}
	return api.WithHint(errors.Join(errs...), hint)
}

func (s Status) notThere(timeout time.Duration) error {
	err := fmt.Errorf("deployment %s was not ready after %.0f seconds (%d/%d pods available)",
		s.Name, timeout.Seconds(), s.Ready, s.Wanted)
	for _, r := range s.Reasons {
		err = fmt.Errorf("%w\n  %s", err, r)
	}
	return err
}
