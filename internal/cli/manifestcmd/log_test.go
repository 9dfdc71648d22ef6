// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
)

func TestAlreadySeen(t *testing.T) {
	tests := map[string]struct {
		seen, log []string
		want      int
	}{
		"first":          {nil, []string{"a"}, 0},
		"grown":          {[]string{"a", "b"}, []string{"a", "b", "c"}, 2},
		"same":           {[]string{"a"}, []string{"a"}, 1},
		"equal lines":    {[]string{"a", "a"}, []string{"a", "a", "a"}, 2},
		"collapsed":      {[]string{"a", "b", "c"}, []string{"2 lines", "c", "d"}, 2},
		"collapsed more": {[]string{"x", "b", "x"}, []string{"1 line", "b", "x", "x"}, 3},
		"other log":      {[]string{"a"}, []string{"b"}, 0},
		"emptied":        {[]string{"a"}, nil, 0},
	}
	for name, test := range tests {
		if got := alreadySeen(test.seen, test.log); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		replies := []struct {
			log []string
			err error
		}{{log: []string{"a"}}, {err: down}, {err: down}, {log: []string{"a", "b", "c"}}, {log: []string{"c", "d"}}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		var times []time.Duration
		fetch := func(context.Context) ([]string, error) {
			times = append(times, time.Since(start))
			reply := replies[0]
			if len(replies) > 1 {
				replies = replies[1:]
			} else {
				cancel()
			}
			return slices.Clone(reply.log), reply.err
		}
		var lines []string
		warnings := 0
		err := follow(ctx, fetch, func(line string) error { lines = append(lines, line); return nil },
			func(error) { warnings++ })
		if err != nil || warnings != 1 {
			t.Errorf("got %v and %d warnings", err, warnings)
		}
		// The last reply came when it was too late.
		if diff := cmp.Diff([]string{"a", "b", "c"}, lines); diff != "" {
			t.Error(diff)
		}
		for i, at := range times {
			if at != time.Duration(i)*followEvery {
				t.Errorf("request %d came after %v", i, at)
			}
		}
	})
}

func TestFollowEnds(t *testing.T) {
	for _, lastingError := range []error{api.ErrRootMismatch, &api.RequestError{Code: 405}} {
		synctest.Test(t, func(t *testing.T) {
			fetch := func(context.Context) ([]string, error) { return nil, lastingError }
			err := follow(t.Context(), fetch, nil, nil)
			if !errors.Is(err, lastingError) {
				t.Errorf("got %v", err)
			}
		})
	}
	full := errors.New("full")
	synctest.Test(t, func(t *testing.T) {
		fetch := func(context.Context) ([]string, error) { return []string{"a"}, nil }
		if err := follow(t.Context(), fetch, func(string) error { return full }, nil); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	})
}
