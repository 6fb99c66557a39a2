package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// fleet is a fixed number of workers. A worker that ends is replaced by a new one.
type fleet struct {
	program  string // of the workers that are started from now on
	dir      string
	settings []string
	inFlight func(context.Context) []string // application ids of all active tasks

	mu       sync.Mutex
	members  []*process
	started  int
	problems []string
	crashes  []crash
	closing  bool
	watching sync.WaitGroup
}

// crash is the sudden end of a worker, with the application ids in flight in the fleet.
type crash struct {
	at  time.Time
	ids []string
}

const (
	restartDelay = 500 * time.Millisecond
	stopTimeout  = 40 * time.Second // more than a graceful stop takes
)

func (f *fleet) open(n int) error {
	f.members = make([]*process, n)
	for i := range f.members {
		if _, err := f.start(i, "", nil); err != nil {
			return err
		}
	}
	return nil
}

// start starts a worker at an index, and watches it. It returns the previous worker there.
// If expected is not nil and not the previous worker, it does nothing, because the worker
// has been replaced already.
func (f *fleet) start(index int, failpoint string, expected *process) (before *process, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before = f.members[index]
	if f.closing || expected != nil && before != expected {
		return before, nil
	}
	f.started++
	p, err := launch(f.program, f.dir, fmt.Sprintf("worker-%03d", f.started), []string{"worker", "--simulate"}, f.settings, failpoint)
	if err != nil {
		return before, err
	}
	f.members[index] = p
	f.watching.Go(func() { f.watch(index, p) })
	return before, nil
}

// watch records how a worker ends, and replaces it.
func (f *fleet) watch(index int, p *process) {
	<-p.Exited
	at := time.Now()
	problem := p.problem()
	if !p.Sent(syscall.SIGTERM) {
		f.recordCrash(at)
	}
	f.mu.Lock()
	if problem != "" {
		f.problems = append(f.problems, problem)
	}
	replaced := f.members[index] != p || f.closing
	f.mu.Unlock()
	if replaced {
		return
	}
	time.Sleep(restartDelay) //nolint:forbidigo // as a process supervisor does
	if _, err := f.start(index, "", p); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.problems = append(f.problems, err.Error())
	}
}

// recordCrash records the requests that a sudden end may have interrupted.
func (f *fleet) recordCrash(at time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	ids := f.inFlight(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashes = append(f.crashes, crash{at, ids})
}

func (f *fleet) at(index int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[index%len(f.members)]
}

// replace starts a new worker at an index and stops the old one gracefully.
func (f *fleet) replace(index int, failpoint string) error {
	index %= len(f.members)
	old, err := f.start(index, failpoint, nil)
	if err != nil {
		return err
	}
	old.Signal(syscall.SIGCONT)
	old.Signal(syscall.SIGTERM)
	f.watching.Go(func() {
		select {
		case <-old.Exited:
		case <-time.After(stopTimeout):
			problem := old.stop(0)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.problems = append(f.problems, problem)
		}
	})
	return nil
}

// upgradeOne replaces the first worker by one of another program, of which are all workers
// that are started from now on.
func (f *fleet) upgradeOne(program string) error {
	f.mu.Lock()
	f.program = program
	f.mu.Unlock()
	return f.replace(0, "")
}

// upgradeOthers replaces the other workers, too.
func (f *fleet) upgradeOthers() error {
	for i := 1; i < len(f.members); i++ {
		if err := f.replace(i, ""); err != nil {
			return err
		}
	}
	return nil
}

// restore replaces all workers that have failpoints, and continues frozen ones.
func (f *fleet) restore() error {
	for i := range f.members {
		p := f.at(i)
		p.Signal(syscall.SIGCONT)
		if p.armed {
			if err := f.replace(i, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// close stops all workers gracefully. It returns the problems with all workers that have
// ended.
func (f *fleet) close() []string {
	f.mu.Lock()
	f.closing = true
	members := slices.Clone(f.members)
	f.mu.Unlock()
	var stopping sync.WaitGroup
	for _, p := range members {
		if p != nil {
			stopping.Go(func() {
				if problem := p.stop(stopTimeout); problem != "" {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.problems = append(f.problems, problem)
				}
			})
		}
	}
	stopping.Wait()
	f.watching.Wait()
	slices.Sort(f.problems)
	return slices.Compact(f.problems)
}

func (f *fleet) kinds(long bool) []kind {
	const group = "fleet"
	sec := time.Second
	kinds := []kind{
		{"kill", group, moment, moment, f.kill},
		{"term", group, moment, moment, func(_ context.Context, o injection) error { return f.replace(o.pick(1<<16), "") }},
		{"stop", group, 2 * sec, 6 * sec, f.freeze},
	}
	if long {
		kinds = append(kinds, kind{"stop-45s", "freeze", 45 * sec, 45 * sec, f.freeze})
	}
	for _, p := range []struct {
		name, action string
		hits         int // maximum number of the hit at which the failpoint acts
	}{
		{"taken", "kill", 100},
		{"admitted", "kill", 50},
		{"called", "kill", 50},
		{"recorded", "kill", 50},
		{"released", "kill", 1},
		{"fed", "kill", 2},
		{"dispatched", "kill", 40},
		{"joined", "kill", 1},
		{"stopping", "kill", 1},
		{"called", "panic", 20},
		{"admitted", "panic", 20},
		{"ack", "error", 20},
		{"ack", "lost", 20},
	} {
		name := "at-" + p.name
		if p.action != "kill" {
			name += "-" + p.action
		}
		kinds = append(kinds, kind{name, group, 2 * sec, 4 * sec, func(_ context.Context, o injection) error {
			return f.arm(o, fmt.Sprintf("%s:%d:%s", p.name, 1+o.pick(p.hits), p.action))
		}})
	}
	return kinds
}

func (f *fleet) kill(_ context.Context, o injection) error {
	f.at(o.pick(1 << 16)).Signal(syscall.SIGKILL)
	return nil
}

func (f *fleet) freeze(_ context.Context, o injection) error {
	p := f.at(o.pick(1 << 16))
	p.Signal(syscall.SIGSTOP)
	o.wait()
	p.Signal(syscall.SIGCONT)
	return nil
}

// arm replaces all workers by ones with a failpoint for the duration of the fault. All of
// them need it, because any may be the one that feeds or dispatches.
func (f *fleet) arm(o injection, failpoint string) error {
	for i := range f.members {
		if err := f.replace(i, failpoint); err != nil {
			return err
		}
	}
	o.wait()
	for i := range f.members {
		if f.at(i).armed {
			if err := f.replace(i, ""); err != nil {
				return err
			}
		}
	}
	return nil
}
