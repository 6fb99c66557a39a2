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

// kind is one way to break things. Two of one group never happen at a time.
type kind struct {
	name, group string
	least, most time.Duration // how long it lasts
	do          inject
}

// rare says that FaceKi's refusal of the credentials follows, which is a pause of
// a minute at least, or that it lasts as long by itself: a run would be nothing
// else if such a kind came as often as the others.
func (k kind) rare() bool {
	return k.group == "frozen" || k.name == "faceki-redirect" || k.name == "faceki-revoke" || k.name == "faceki-no-token"
}

// inject breaks something, waits for as long as the occasion lasts, and mends it.
type inject func(ctx context.Context, o occasion) error

// occasion is one fault of the schedule.
type occasion struct {
	kind   kind
	at     time.Duration // after the start
	lasts  time.Duration
	chance uint64          // what else is to be drawn
	over   <-chan struct{} // closed when the run is broken off
}

func (o occasion) wait() { o.pause(o.lasts) }

// pause ends early where the run is broken off.
func (o occasion) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.over:
	}
}

// pick gives a number from 0 to n-1.
func (o occasion) pick(n int) int { return int(o.chance % uint64(n)) } //nolint:gosec // n is a small count

func (o occasion) String() string {
	return fmt.Sprintf("%7.2fs  %-16s for %.1fs", o.at.Seconds(), o.kind.name, o.lasts.Seconds())
}

// plan makes the schedule of a seed: each kind has its turn before one comes
// again. The same seed, kinds and duration make the same schedule.
func plan(seed uint64, kinds []kind, duration, gap time.Duration) []occasion {
	random := rand.New(rand.NewPCG(seed, 1))
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(random.Int64N(int64(b-a)+1)) }
	var schedule []occasion
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
		o := occasion{kind: deck[0], lasts: between(deck[0].least, deck[0].most), chance: random.Uint64()}
		deck = deck[1:]
		o.at = max(now, free[o.kind.group])
		free[o.kind.group] = o.at + o.lasts + gap/4
		if o.at < duration {
			schedule = append(schedule, o)
		}
	}
	slices.SortStableFunc(schedule, func(a, b occasion) int { return cmp.Compare(a.at, b.at) })
	return schedule
}

// follow injects the schedule's faults and returns when all of them are over.
// The faults of a group wait for each other, should one take longer than planned.
func follow(ctx context.Context, schedule []occasion, notes io.Writer) (map[string]int, error) {
	var running sync.WaitGroup
	var mu sync.Mutex
	var failed error
	injected, groups := map[string]int{}, map[string]*sync.Mutex{}
	began := time.Now()
	for _, o := range schedule {
		o.over = ctx.Done()
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
				failed = fmt.Errorf("the fault %s could not be injected: %w", o.kind.name, err)
			}
		})
	}
	running.Wait()
	return injected, failed
}
