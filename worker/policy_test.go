package worker

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func most(d time.Duration) time.Duration { return d }

func TestPolicy_DecidesByTheFault(t *testing.T) {
	follows := map[fault.Kind]attempt.Action{
		fault.BadRequest: attempt.Fail, fault.RulesMissing: attempt.Fail,
		fault.Unusable:    attempt.Hold,
		fault.Interrupted: attempt.Requeue,
		fault.ServerError: attempt.Retry, fault.LinkNotMade: attempt.Retry, fault.Unavailable: attempt.Retry,
		fault.TooMany: attempt.Retry, fault.NotSent: attempt.Retry, fault.ConnectTimeout: attempt.Retry,
		fault.Lost: attempt.Retry, fault.TimedOut: attempt.Retry, fault.Unreadable: attempt.Retry,
		fault.Unauthorized: attempt.Retry, fault.NotFaceKi: attempt.Retry, fault.CreditGone: attempt.Retry, fault.LimitGone: attempt.Retry,
		fault.AccountRules: attempt.Retry, fault.TokenUnavailable: attempt.Retry,
	}
	p := policy{base: 2 * time.Second, cap: time.Minute, maxCharged: 8, random: most}
	for kind := fault.BadRequest; kind <= fault.Interrupted; kind++ {
		f := &fault.Fault{Kind: kind, RetryAfter: 50 * time.Second}
		next := p.next(f, request.Record{Attempts: 1}, false)
		if next.Action != follows[kind] || next.MaxCharged != 8 {
			t.Errorf("%v: %s follows, with %d to spend; want %s and 8", f, next.Action, next.MaxCharged, follows[kind])
		}
		switch {
		case next.Action == attempt.Retry && next.Delay != f.RetryAfter:
			t.Errorf("%v: runs again after %s, FaceKi asked for %s", f, next.Delay, f.RetryAfter)
		case next.Action == attempt.Requeue && next.Delay != 0:
			t.Errorf("%v: put back, but waits for %s", f, next.Delay)
		}
	}
}

func TestPolicy_HoldsUncertainOutcomesOnly(t *testing.T) {
	retry := policy{base: time.Second, cap: time.Minute, maxCharged: 8, random: most}
	hold := retry
	hold.hold = true
	held := 0
	for kind := fault.BadRequest; kind <= fault.Interrupted; kind++ {
		f := &fault.Fault{Kind: kind}
		for _, probe := range []bool{false, true} {
			want := retry.next(f, request.Record{Attempts: 2}, probe)
			if f.Outcome() == fault.Uncertain {
				want.Action = attempt.Hold
			}
			got := hold.next(f, request.Record{Attempts: 2}, probe)
			if got.Action != want.Action || got.Action != attempt.Hold && got != want {
				t.Errorf("%v: %+v follows, want %+v", f, got, want)
			}
		}
		if hold.next(f, request.Record{Attempts: 1}, false).Action == attempt.Hold {
			held++
		}
	}
	if held != 5 {
		t.Errorf("%d kinds of faults hold a request, want five", held)
	}
}

func TestPolicy_BacksOffExponentially(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy{
			base:   time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "base")),
			cap:    time.Duration(rapid.Int64Range(1, math.MaxInt64/2).Draw(t, "cap")),
			random: uniform,
		}
		attempts := rapid.IntRange(-1, 100_000).Draw(t, "attempts")
		retryAfter := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "retry after"))

		ceiling := p.cap
		if exact := float64(p.base) * math.Pow(2, float64(max(attempts, 1)-1)); exact < float64(p.cap) {
			ceiling = time.Duration(exact)
		}
		slack := ceiling / 1_000_000 // floats are not exact
		if got := p.backoff(attempts); got < 0 || got > ceiling+slack {
			t.Fatalf("a pause of %s, the bounds are 0 and %s", got, ceiling)
		}
		p.random = most
		if got := p.backoff(attempts); got < ceiling-slack || got > ceiling+slack {
			t.Fatalf("the longest pause is %s, want %s", got, ceiling)
		}
		p.random = func(time.Duration) time.Duration { return 0 }
		if got := p.next(&fault.Fault{Kind: fault.TooMany, RetryAfter: retryAfter}, request.Record{Attempts: attempts}, false).Delay; got != min(retryAfter, longestRetryAfter) {
			t.Fatalf("runs again after %s, FaceKi asked for %s", got, retryAfter)
		}
	})
}

func TestPolicy_DoublesPausesAfterUncertainProbes(t *testing.T) {
	p := policy{base: time.Second, cap: time.Second, random: func(time.Duration) time.Duration { return 0 }}
	for _, tt := range []struct {
		kind       fault.Kind
		attempts   int
		uncertain  int // of the earlier attempts
		retryAfter time.Duration
		want       time.Duration
	}{
		{fault.Unavailable, 0, 0, 0, 5 * time.Second},
		{fault.Unavailable, 1, 0, 0, 5 * time.Second},
		{fault.ServerError, 2, 1, 0, 10 * time.Second},
		{fault.Lost, 3, 2, 0, 20 * time.Second},
		{fault.Lost, 10, 9, 0, 2560 * time.Second},
		{fault.Lost, 11, 10, 0, time.Hour},
		{fault.Lost, math.MaxInt, math.MaxInt, 0, time.Hour},
		{fault.Lost, 700, 0, 0, 5 * time.Second},                          // an hour of probes that made no link
		{fault.Unavailable, math.MaxInt, math.MaxInt, 0, 5 * time.Second}, // no link was made
		{fault.CreditGone, 10, 9, 0, 5 * time.Second},
		{fault.TooMany, 1, 0, 50 * time.Second, 50 * time.Second},
		{fault.TooMany, 20, 0, 2 * time.Hour, time.Minute},
		{fault.Interrupted, 5, 0, 0, 0}, // no attempt
	} {
		f := &fault.Fault{Kind: tt.kind, RetryAfter: tt.retryAfter}
		r := request.Record{Attempts: tt.attempts, PossibleDuplicates: tt.uncertain}
		if got := p.next(f, r, true).Delay; got != tt.want {
			t.Errorf("%v as attempt %d, with %d uncertain before: the probe's request runs again after %s, want %s", f, tt.attempts, tt.uncertain, got, tt.want)
		}
		if got := p.next(f, r, false).Delay; got != min(tt.retryAfter, longestRetryAfter) {
			t.Errorf("%v as attempt %d: no probe, but runs again after %s", f, tt.attempts, got)
		}
	}
}

func TestPolicy_SpreadsPausesEvenly(t *testing.T) {
	p := policy{base: time.Second, cap: time.Minute, random: uniform}
	var quarters [4]int
	for range 4000 {
		quarters[min(3, int(4*p.backoff(3)/(4*time.Second)))]++
	}
	for i, n := range quarters {
		if n < 800 || n > 1200 { // 7 standard deviations
			t.Errorf("%d of 4000 pauses are in quarter %d", n, i+1)
		}
	}
}
