package ledger

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
)

var (
	commitScript    = scripts.Script("commit.lua")
	admitFunction   = scripts.Function("admit")
	createdFunction = scripts.Function("created")
	faultFunction   = scripts.Function("fault")
)

// committer runs the transitions of several goroutines in one script. Transitions that arrive
// while a script is running are sent together with the next one. A transition waits for no
// others to join it but those of goroutines that can run at once. If round trips to Redis are slow, it does not wait for the round trip of
// others either.
type committer struct {
	rdb           redis.UniversalClient
	script        *lua.Script // commit.lua
	tag           string
	maxSharedTrip time.Duration // the longest round trip of others to wait for
	expected      func() int64  // what this process takes Redis' time for

	mu      sync.Mutex
	busy    bool
	waiting []*transition
	trips   [8]time.Duration // the last round trips
	trip    int              // the number of round trips so far
}

const (
	// defaultMaxSharedTrip is short, since a grant expires 100 ms after its query.
	defaultMaxSharedTrip = 5 * time.Millisecond
	// maxTransitions is the number of transitions in one script, which must not block
	// Redis for long.
	maxTransitions = 32
)

// transition is one transition that a goroutine waits for.
type transition struct {
	name  string // of the Lua function
	args  []any
	reply any
	err   error
	sends chan bool // true: send all that wait; false: the reply has arrived
}

var errNotSent = errors.New("the transitions were not sent")

// run runs one transition: admit, created or fault. It returns when the reply has arrived or
// cannot arrive any more, even if ctx ends before: a script that ran after its caller had
// returned could undo the caller's next step.
func (c *committer) run(ctx context.Context, function *lua.Function, args lua.Args) (any, error) {
	list, err := function.List(args)
	if err != nil {
		return nil, err
	}
	own := &transition{name: function.Name(), args: list, err: errNotSent}
	c.mu.Lock()
	if c.busy && c.farAway() {
		c.mu.Unlock()
		c.send(ctx, []*transition{own})
		return own.reply, own.err
	}
	if c.busy {
		own.sends = make(chan bool, 1)
		c.waiting = append(c.waiting, own)
		c.mu.Unlock()
		if lead := <-own.sends; !lead {
			return own.reply, own.err
		}
		c.mu.Lock()
	}
	c.busy = true
	c.mu.Unlock()
	runtime.Gosched() // goroutines that can run now may have transitions, too
	c.mu.Lock()
	n := min(len(c.waiting), maxTransitions-1)
	others := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	c.mu.Unlock()

	defer c.next(time.Now())
	defer func() {
		for _, o := range others {
			o.sends <- false
		}
	}()
	c.send(ctx, append(others, own))
	return own.reply, own.err
}

// send runs the script for all transitions, and sets their replies.
func (c *committer) send(ctx context.Context, all []*transition) {
	n := 0
	for _, s := range all {
		n += 2 + len(s.args)
	}
	args := append(make([]any, 0, n+1), c.expected())
	for _, s := range all {
		args = append(append(args, s.name, len(s.args)), s.args...)
	}
	replies, err := c.script.RunList(ctx, c.rdb, []string{c.tag}, args).Slice()
	if err == nil && len(replies) != len(all) {
		err = fmt.Errorf("%d replies for %d transitions", len(replies), len(all))
	}
	for i, s := range all {
		if s.err = err; err == nil {
			s.reply, s.err = c.outcome(replies[i])
		}
	}
}

// outcome parses the reply for one transition.
func (c *committer) outcome(of any) (any, error) {
	pair, _ := of.([]any)
	switch {
	case len(pair) == 2 && pair[0] == int64(1):
		return pair[1], nil
	case len(pair) == 2:
		return nil, fmt.Errorf("the script failed: %s", c.script.Locate(fmt.Sprint(pair[1])))
	}
	return nil, fmt.Errorf("unexpected reply %v", of)
}

// farAway reports whether a round trip to Redis takes too long to wait for that of others.
// Each trip includes the script, and what delays both processes: only the shortest of the
// last ones shows how far away Redis is.
func (c *committer) farAway() bool {
	known := c.trips[:min(c.trip, len(c.trips))]
	return len(known) > 0 && slices.Min(known) > c.maxSharedTrip
}

// next lets the first waiting transition send all that wait.
func (c *committer) next(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trips[c.trip%len(c.trips)] = time.Since(began)
	c.trip++
	if c.busy = len(c.waiting) > 0; c.busy {
		c.waiting[0].sends <- true
		c.waiting = c.waiting[1:]
	}
}

// text and texts convert a reply.
func text(reply any, err error) (string, error) {
	if err != nil {
		return "", err
	}
	s, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("unexpected reply %v", reply)
	}
	return s, nil
}

func texts(reply any, err error) ([]string, error) {
	list, _ := reply.([]any)
	all := make([]string, len(list))
	for i := range list {
		if all[i], err = text(list[i], err); err != nil {
			return nil, err
		}
	}
	return all, err
}
