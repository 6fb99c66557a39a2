package ledger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// commits sends the scripts of several goroutines in one round trip: whoever
// comes while some are on their way goes with the next. Nobody waits for company,
// and where Redis is far away nobody waits for others' round trips either.
type commits struct {
	rdb     redis.UniversalClient
	farAway time.Duration // how long others' round trips may take to be waited for

	mu      sync.Mutex
	busy    bool
	waiting []*commit
	took    time.Duration // the last round trip
}

// farAway is the usual one: a grant is worth nothing 100 ms after it was asked for.
const farAway = 5 * time.Millisecond

// commit is a script that is to run.
type commit struct {
	script *redis.Script
	keys   []string
	args   []any
	reply  *redis.Cmd
	lead   chan bool // true: send what is waiting; false: the reply is there
}

var errNotSent = errors.New("the scripts that were to be sent together could not be sent")

// run is [redis.Script.Run]. It does not return before there is a reply or there
// can be none, even where ctx ends: a script that ran after its caller had given
// up might undo what the caller does next.
func (c *commits) run(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	c.mu.Lock()
	if c.busy && c.took > c.farAway {
		c.mu.Unlock()
		return script.Run(ctx, c.rdb, keys, args...)
	}
	own := &commit{script: script, keys: keys, args: args, lead: make(chan bool, 1)}
	if c.busy {
		c.waiting = append(c.waiting, own)
		c.mu.Unlock()
		if lead := <-own.lead; !lead {
			return own.reply
		}
		c.mu.Lock()
	}
	c.busy = true
	others := c.waiting
	c.waiting = nil
	c.mu.Unlock()

	defer c.next(time.Now())
	if len(others) == 0 {
		return script.Run(ctx, c.rdb, keys, args...)
	}
	c.send(ctx, own, others)
	return own.reply
}

func (c *commits) send(ctx context.Context, own *commit, others []*commit) {
	defer func() {
		for _, o := range others {
			if o.reply == nil {
				o.reply = redis.NewCmd(ctx)
				o.reply.SetErr(errNotSent)
			}
			o.lead <- false
		}
	}()
	all := append([]*commit{own}, others...)
	pipe := c.rdb.Pipeline()
	replies := make([]*redis.Cmd, len(all))
	for i, s := range all {
		replies[i] = s.script.EvalSha(ctx, pipe, s.keys, s.args...)
	}
	_, _ = pipe.Exec(ctx) // each reply has its own error
	for i, s := range all {
		if s.reply = replies[i]; redis.HasErrorPrefix(s.reply.Err(), "NOSCRIPT") {
			s.reply = s.script.Eval(ctx, c.rdb, s.keys, s.args...)
		}
	}
}

// next lets the first of those that came meanwhile send them all.
func (c *commits) next(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = time.Since(began)
	if c.busy = len(c.waiting) > 0; c.busy {
		c.waiting[0].lead <- true
		c.waiting = c.waiting[1:]
	}
}
