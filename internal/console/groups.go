package console

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// group is the entries of a list that have something in common: requests a reason,
// deliveries a receiver.
type group struct {
	Name           string
	Number         int // all of them
	Retrying       int // of deliveries: those that will be attempted again
	Oldest, Newest time.Time
	Next           time.Time // of deliveries: the next attempt; zero if there is none
	// Message is that of the newest entry, Reason its reason, and Code its HTTP status.
	Message, Reason string
	Code            int
}

// GivenUp is the number of deliveries that nobody attempts again.
func (g group) GivenUp() int { return g.Number - g.Retrying }

// member is an entry of a list that belongs to a group.
type member struct {
	group    string
	at, next time.Time
	retrying bool
	message  string
	reason   string
	code     int
}

// tally is the groups of a list.
type tally struct {
	Groups []group // the largest first
	Total  int
	// Counting reports that the entries are being counted. The tally is the one before then
	// or, if Partial, that of the entries that were read so far.
	Counting, Partial bool
	At                time.Time // when the count began
}

// Number returns the number of entries of a group, or of all if the name is empty.
func (t tally) Number(name string) int {
	if name == "" {
		return t.Total
	}
	for _, g := range t.Groups {
		if g.Name == name {
			return g.Number
		}
	}
	return 0
}

// mostGroups is how many groups a page shows.
const mostGroups = 50

// Shown are the largest groups, and Hidden is how many others there are.
func (t tally) Shown() []group { return t.Groups[:min(len(t.Groups), mostGroups)] }
func (t tally) Hidden() int    { return len(t.Groups) - len(t.Shown()) }

// Share is how large a group is compared with the largest one, in a bar that is 1000 wide.
func (t tally) Share(g group) int {
	if len(t.Groups) == 0 || t.Groups[0].Number == 0 {
		return 0
	}
	return max(barWidth/100, g.Number*barWidth/t.Groups[0].Number)
}

// adder adds the entries of one count. It is safe for concurrent use.
type adder struct {
	mu     sync.Mutex
	groups map[string]group
	total  int
}

func (a *adder) add(members []member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range members {
		g := a.groups[m.group]
		g.Name = m.group
		g.Number++
		if m.retrying {
			g.Retrying++
		}
		if g.Oldest.IsZero() || m.at.Before(g.Oldest) {
			g.Oldest = m.at
		}
		if !m.next.IsZero() && (g.Next.IsZero() || m.next.Before(g.Next)) {
			g.Next = m.next
		}
		if g.Newest.IsZero() || !m.at.Before(g.Newest) {
			g.Newest, g.Message, g.Reason, g.Code = m.at, m.message, m.reason, m.code
		}
		a.groups[m.group] = g
		a.total++
	}
}

func (a *adder) tally() tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	groups := slices.SortedFunc(maps.Values(a.groups), func(x, y group) int {
		return cmp.Or(cmp.Compare(y.Number, x.Number), cmp.Compare(x.Name, y.Name))
	})
	return tally{Groups: groups, Total: a.total}
}

// counter reads the entries of a list, and adds them a page at a time.
type counter func(ctx context.Context, add func([]member)) error

// within counts a list, or as much of it as a limit of time permits.
func (count counter) within(ctx context.Context, limit time.Duration) (tally, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := &adder{groups: map[string]group{}}
	err := count(limited, a.add)
	t := a.tally()
	if t.Partial = err != nil && limited.Err() != nil && ctx.Err() == nil; t.Partial {
		err = nil
	}
	return t, err
}

const (
	// tallyWait is how long a page waits for a count. Most lists are counted within it.
	tallyWait = 50 * time.Millisecond
	// tallyTimeout limits a count.
	tallyTimeout = 5 * time.Minute
	// tallyRest is how long a tally is used, as a multiple of the time that its count took.
	tallyRest = 20
	// mostTallies is how many tallies are kept, and mostCounts how many counts run at a time.
	mostTallies = 64
	mostCounts  = 2
)

var errStopping = errors.New("the server stops")

// tallies counts lists, which may be long, in the background, and keeps the results for a
// while. It is safe for concurrent use.
type tallies struct {
	stopping <-chan struct{}
	running  chan struct{} // has one element for each count

	mu  sync.Mutex
	all map[string]*counting
}

// counting is the latest count of a list.
type counting struct {
	before tally // the result of the count before
	soFar  *adder
	began  time.Time
	done   chan struct{} // closed at the end; then the fields below do not change
	result tally
	err    error
	ended  time.Time
}

func newTallies(stopping <-chan struct{}) *tallies {
	return &tallies{stopping: stopping, running: make(chan struct{}, mostCounts), all: map[string]*counting{}}
}

// get returns the tally of a list that key identifies, and begins to count it if the last
// count was too long ago.
func (t *tallies) get(ctx context.Context, key string, count counter) (tally, error) {
	c := t.latest(key, count)
	if c == nil {
		return tally{}, &pageError{http.StatusServiceUnavailable, "Too many lists are being counted", "Try again in a minute, or with fewer different filters."}
	}
	timer := time.NewTimer(tallyWait)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		return tally{}, ctx.Err()
	case <-timer.C:
	}
	now := c.before
	if now.At.IsZero() {
		now = c.soFar.tally()
		now.Partial, now.At = true, c.began
	}
	now.Counting = true
	return now, nil
}

// latest returns the count that is running, or was done a short time ago, or a new one; nil
// if there are too many.
func (t *tallies) latest(key string, count counter) *counting {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, old := time.Now(), t.all[key]
	if old != nil && !old.over(now) {
		return old
	}
	maps.DeleteFunc(t.all, func(_ string, kept *counting) bool { return len(t.all) >= mostTallies && kept.isDone() })
	if len(t.all) >= mostTallies && old == nil {
		return nil
	}
	c := &counting{soFar: &adder{groups: map[string]group{}}, began: now, done: make(chan struct{})}
	if old != nil && old.err == nil {
		c.before = old.result
	}
	t.all[key] = c
	go t.run(c, count)
	return c
}

// isDone reports whether the count has ended.
func (c *counting) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// over reports whether the count has ended, and its result should no longer be used.
func (c *counting) over(now time.Time) bool {
	return c.isDone() && (c.err != nil || now.Sub(c.ended) > tallyRest*c.ended.Sub(c.began))
}

func (t *tallies) run(c *counting, count counter) {
	defer close(c.done)
	select {
	case t.running <- struct{}{}:
		defer func() { <-t.running }()
	case <-t.stopping:
		c.err = errStopping
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tallyTimeout)
	defer cancel()
	go func() { // until the count ends
		select {
		case <-t.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	c.err = count(ctx, c.soFar.add)
	c.result = c.soFar.tally()
	c.result.At, c.ended = c.began, time.Now()
}
