// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestPauses: they grow, are capped, and end with the deadline; the last failure is returned.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var times []time.Time
		err := whileUnavailable(ctx, Config{}.withDefaults(), func() error {
			times = append(times, time.Now())
			return status.Error(codes.Unavailable, "away")
		})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
		if elapsed := time.Since(times[0]); elapsed != time.Minute {
			t.Errorf("gave up after %v", elapsed)
		}
		// 250 ms growing by half: at least 13 attempts without jitter, at most twice as many with all of it.
		if n := len(times); n < 13 || n > 40 {
			t.Errorf("%d attempts", n)
		}
		pause := firstPause
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap > pause || gap < pause/2 {
				t.Errorf("pause %d is %v, not within half of %v", i, gap, pause)
			}
			pause = min(pause+pause/2, lastPause)
		}
	})
}

func TestNoPauseAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, code := range []codes.Code{
			codes.OK, codes.PermissionDenied, codes.DeadlineExceeded, codes.Internal, codes.Unknown,
		} {
			calls, start := 0, time.Now()
			err := whileUnavailable(t.Context(), Config{}.withDefaults(), func() error {
				calls++
				return status.Error(code, "x")
			})
			if status.Code(err) != code || calls != 1 || time.Since(start) != 0 {
				t.Errorf("%s: %v after %d calls", code, err, calls)
			}
		}
	})
}

func FuzzParseUUID(f *testing.F) {
	for _, seed := range []string{
		"0f0e0d0c-0b0a-4908-8706-050403020100", "{0f0e0d0c-0b0a-4908-8706-050403020100}",
		"urn:uuid:0F0E0D0C-0B0A-4908-8706-050403020100", "0f0e0d0c0b0a49088706050403020100", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := parseUUID(text)
		if err != nil {
			return
		}
		if again, err := parseUUID(id); err != nil || again != id || len(id) != 36 {
			t.Errorf("%q became %q, then %q, %v", text, id, again, err)
		}
	})
}

// TestLastWords: the deadline ends an attempt; the reason for which the ones before failed is worth more.
func TestLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls := 0
		err := whileUnavailable(ctx, Config{}.withDefaults(), func() error {
			if calls++; calls < 3 {
				return status.Error(codes.Unavailable, "connection refused")
			}
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		})
		if status.Code(err) != codes.Unavailable || calls != 3 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}
