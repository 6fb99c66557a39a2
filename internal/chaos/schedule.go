package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// kind is a kind of fault. Two faults of the same group are never injected simultaneously.
type kind struct {
	name, group       string
	shortest, longest time.Duration
	do                injectFunc
}

// rare reports whether faults of the kind take about a minute: workers are frozen for that
// long, or pause because FaceKi refuses the credentials. They are injected less often than
// others, or they would dominate a run.
func (k kind) rare() bool {
	return k.group == "freeze" || k.name == "faceki-redirect" || k.name == "faceki-revoke" || k.name == "faceki-no-token"
}

// injectFunc starts a fault, waits for its duration, and ends it.
type injectFunc func(ctx context.Context, o injection) error

// injection is one fault of the schedule.
type injection struct {
	kind     kind
	at       time.Duration // since the start of the schedule
	duration time.Duration
	random   uint64          // for further random choices
	canceled <-chan struct{} // closed if the run is canceled
}

func (o injection) wait() { o.pause(o.duration) }

// pause waits, but returns immediately if the run is canceled.
func (o injection) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.canceled:
	}
}

// pick returns a random number from 0 to n-1.
func (o injection) pick(n int) int { return int(o.random % uint64(n)) } //nolint:gosec // n is a small count

func (o injection) String() string {
	return fmt.Sprintf("%7.2fs  %-16s for %.1fs", o.at.Seconds(), o.kind.name, o.duration.Seconds())
}

// plan returns the schedule for a seed. Every kind is used once before any is repeated. The
// same seed, kinds and durations result in the same schedule.
func plan(seed uint64, kinds []kind, duration, gap time.Duration) []injection {
	random := rand.New(rand.NewPCG(seed, 1))
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(random.Int64N(int64(b-a)+1)) }
	var schedule []injection
	var deck []kind
	often := slices.DeleteFunc(slices.Clone(kinds), kind.rare)
	free := map[string]time.Duration{}
	for now, round := gap, 0; now < duration && len(kinds) > 0; now += between(gap/2, gap*3/2) {
		if len(deck) == 0 {
			deck = slices.Clone(often)
			if round%4 == 0 || len(often) == 0 {
				deck = slices.Clone(kinds)
			}
			round++
			random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		o := injection{kind: deck[0], duration: between(deck[0].shortest, deck[0].longest), random: random.Uint64()}
		deck = deck[1:]
		o.at = max(now, free[o.kind.group])
		free[o.kind.group] = o.at + o.duration + gap/4
		if o.at < duration {
			schedule = append(schedule, o)
		}
	}
	slices.SortStableFunc(schedule, func(a, b injection) int { return cmp.Compare(a.at, b.at) })
	return schedule
}

// follow injects the faults of the schedule and returns when all have ended. If a fault
// takes longer than planned, the next one of its group waits.
func follow(ctx context.Context, schedule []injection, notes io.Writer) (map[string]int, error) {
	var running sync.WaitGroup
	var mu sync.Mutex
	var failed error
	injected, groups := map[string]int{}, map[string]*sync.Mutex{}
	began := time.Now()
	for _, o := range schedule {
		o.canceled = ctx.Done()
		o.pause(o.at - time.Since(began))
		if ctx.Err() != nil {
			break
		}
		if groups[o.kind.group] == nil {
			groups[o.kind.group] = new(sync.Mutex)
		}
		group := groups[o.kind.group]
		injected[o.kind.name]++
		running.Go(func() {
			group.Lock()
			defer group.Unlock()
			began := time.Now()
			err := o.kind.do(context.WithoutCancel(ctx), o)
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(notes, "%s  %s: took %v\n", time.Now().UTC().Format("15:04:05.000"), o, time.Since(began).Round(time.Millisecond))
			if err != nil && failed == nil {
				failed = fmt.Errorf("inject fault %s: %w", o.kind.name, err)
			}
		})
	}
	running.Wait()
	return injected, failed
}
