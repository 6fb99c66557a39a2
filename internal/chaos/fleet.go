package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// fleet is the workers of a run: a fixed number of places, each with a process
// that is started again whenever it ends.
type fleet struct {
	program  string
	dir      string
	settings []string
	inFlight func(context.Context) []string // ids whose tasks some worker has

	mu         sync.Mutex
	places     []*process
	started    int
	complaints []string
	crashes    []crash
	closing    bool
	watching   sync.WaitGroup
}

// crash is a worker's sudden end, and what was under way in the fleet then.
type crash struct {
	at  time.Time
	ids []string
}

const (
	restartAfter = 500 * time.Millisecond
	stopPatience = 40 * time.Second // the soft stop's own, and some
)

func (f *fleet) open(n int) error {
	f.places = make([]*process, n)
	for i := range f.places {
		if _, err := f.start(i, "", nil); err != nil {
			return err
		}
	}
	return nil
}

// start puts a new process in a place, and sees to it that one follows. It gives
// the one that was there; where that is not the one that is to be followed,
// somebody else has the place, and nothing is started.
func (f *fleet) start(place int, failpoint string, after *process) (before *process, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before = f.places[place]
	if f.closing || after != nil && before != after {
		return before, nil
	}
	f.started++
	p, err := launch(f.program, f.dir, fmt.Sprintf("worker-%03d", f.started), []string{"worker", "--simulate"}, f.settings, failpoint)
	if err != nil {
		return before, err
	}
	f.places[place] = p
	f.watching.Go(func() { f.watch(place, p) })
	return before, nil
}

func (f *fleet) watch(place int, p *process) {
	<-p.over
	at := time.Now()
	complaint := p.complaint()
	p.mu.Lock()
	sudden := !p.stopped
	p.mu.Unlock()
	if sudden {
		f.note(at)
	}
	f.mu.Lock()
	if complaint != "" {
		f.complaints = append(f.complaints, complaint)
	}
	gone := f.places[place] != p || f.closing // somebody else has the place
	f.mu.Unlock()
	if gone {
		return
	}
	time.Sleep(restartAfter) //nolint:forbidigo // as whoever runs the workers does
	if _, err := f.start(place, "", p); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.complaints = append(f.complaints, err.Error())
	}
}

// note remembers what a sudden end may have interrupted.
func (f *fleet) note(at time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	ids := f.inFlight(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashes = append(f.crashes, crash{at, ids})
}

func (f *fleet) at(place int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.places[place%len(f.places)]
}

// replace stops the process of a place softly and starts another one at once.
func (f *fleet) replace(place int, failpoint string) error {
	place %= len(f.places)
	old, err := f.start(place, failpoint, nil)
	if err != nil {
		return err
	}
	old.signal(syscall.SIGCONT)
	old.signal(syscall.SIGTERM)
	f.watching.Go(func() {
		select {
		case <-old.over:
		case <-time.After(stopPatience):
			complaint := old.stop(0)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.complaints = append(f.complaints, complaint)
		}
	})
	return nil
}

// heal puts a process in every place that nothing is done to any more.
func (f *fleet) heal() error {
	for i := range f.places {
		p := f.at(i)
		p.signal(syscall.SIGCONT)
		if p.armed {
			if err := f.replace(i, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// close stops all processes softly and gives everything that was wrong with
// the end of any.
func (f *fleet) close() []string {
	f.mu.Lock()
	f.closing = true
	places := slices.Clone(f.places)
	f.mu.Unlock()
	var stopping sync.WaitGroup
	for _, p := range places {
		if p != nil {
			stopping.Go(func() {
				if complaint := p.stop(stopPatience); complaint != "" {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.complaints = append(f.complaints, complaint)
				}
			})
		}
	}
	stopping.Wait()
	f.watching.Wait()
	slices.Sort(f.complaints)
	return slices.Compact(f.complaints)
}

func (f *fleet) kinds(long bool) []kind {
	const group = "fleet"
	sec := time.Second
	kinds := []kind{
		{"kill", group, aBit, aBit, f.kill},
		{"term", group, aBit, aBit, func(_ context.Context, o occasion) error { return f.replace(o.pick(1<<16), "") }},
		{"stop", group, 2 * sec, 6 * sec, f.freeze},
	}
	if long {
		kinds = append(kinds, kind{"stop-45s", "frozen", 45 * sec, 45 * sec, f.freeze})
	}
	for _, p := range []struct {
		name, action string
		hits         int // the most that are waited for
	}{
		{"taken", "kill", 100},
		{"marked", "kill", 50},
		{"called", "kill", 50},
		{"recorded", "kill", 50},
		{"passed", "kill", 1},
		{"fed", "kill", 2},
		{"dispatched", "kill", 40},
		{"joined", "kill", 1},
		{"stopping", "kill", 1},
		{"called", "panic", 20},
		{"marked", "panic", 20},
		{"ack", "error", 20},
		{"ack", "lost", 20},
	} {
		name := "at-" + p.name
		if p.action != "kill" {
			name += "-" + p.action
		}
		kinds = append(kinds, kind{name, group, 2 * sec, 4 * sec, func(_ context.Context, o occasion) error {
			return f.arm(o, fmt.Sprintf("%s:%d:%s", p.name, 1+o.pick(p.hits), p.action))
		}})
	}
	return kinds
}

func (f *fleet) kill(_ context.Context, o occasion) error {
	f.at(o.pick(1 << 16)).signal(syscall.SIGKILL)
	return nil
}

func (f *fleet) freeze(_ context.Context, o occasion) error {
	p := f.at(o.pick(1 << 16))
	p.signal(syscall.SIGSTOP)
	o.wait()
	p.signal(syscall.SIGCONT)
	return nil
}

// arm replaces all processes by ones that break at a point, as nobody can say
// which of them leads, and leaves them so until the occasion is over.
func (f *fleet) arm(o occasion, failpoint string) error {
	for i := range f.places {
		if err := f.replace(i, failpoint); err != nil {
			return err
		}
	}
	o.wait()
	for i := range f.places {
		if f.at(i).armed {
			if err := f.replace(i, ""); err != nil {
				return err
			}
		}
	}
	return nil
}
