// Package tasks is the producer's side of kyclink: asking for links, and reading
// what became of them.
//
// A [Client] accepts requests in Redis, where workers find them. The same
// request may be made again at any time, from anywhere: it never makes a second
// link.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// Config says where a [Client] puts its requests.
type Config struct {
	// Account is the namespace of one FaceKi account, [a-z0-9-]{1,32};
	// "default" where empty.
	Account string
	// Callbacks says which callback_url a request may have; none where it is zero.
	Callbacks Callbacks
	// RedirectHosts are the hosts that a redirect_url may lead to, on any port; any
	// where there is none, or "*".
	RedirectHosts []string
	// MaxBacklog is how many requests of a lane may wait and be queued: what is new
	// beyond it is refused with a [*BacklogError]. 0: any number. It is this client's
	// alone: give the same to all.
	MaxBacklog int
	// OnFull is called while [Client.EnqueueAll] waits for room in a lane, several
	// times a second, and by several goroutines at a time.
	OnFull func(*BacklogError)
}

// Client is the producer's side: it accepts requests and reads what became of
// them. It is safe for concurrent use.
type Client struct {
	rdb    redis.UniversalClient
	keys   keyspace.Keys
	queue  *asynq.Client
	names  *batchname.Cache
	limit  int // of a lane's backlog; 0: none
	onFull func(*BacklogError)
	now    func() time.Time

	destinations destinations
	caller       Caller
}

// NewClient makes a client that uses, and does not close, rdb.
func NewClient(rdb redis.UniversalClient, cfg Config) *Client {
	if cfg.Account == "" {
		cfg.Account = "default"
	}
	if cfg.OnFull == nil {
		cfg.OnFull = func(*BacklogError) {}
	}
	return &Client{
		rdb:    rdb,
		keys:   keyspace.Keys{Account: cfg.Account},
		queue:  asynq.NewClientFromRedisClient(rdb),
		limit:  cfg.MaxBacklog,
		names:  new(batchname.Cache),
		onFull: cfg.OnFull,
		now:    time.Now,

		destinations: destinations{cfg.Callbacks, []redirectHosts{{cfg.RedirectHosts, "KYCLINK_REDIRECT_HOSTS"}}},
	}
}

// Enqueue asks for a link and returns what is known of it. It is idempotent:
// asking again never makes a second link, the answer is what exists. A repeat
// in the interactive lane brings a bulk request that still waits forward.
//
// Errors about the request are [*InvalidError], [*ConflictError], [*ForeignError] and
// [*GapError]; a [*BacklogError] says that it is not accepted now. After any other
// error the request may have been accepted: ask again.
func (c *Client) Enqueue(ctx context.Context, req Request) (Link, error) {
	if req.Lane == "" {
		req.Lane = Interactive
	}
	if err := req.acceptable(c.destinations); err != nil {
		return Link{}, err
	}
	results, err := c.acceptAll(ctx, place{chunk: noChunk, by: c.caller.ID}, nil, []Row{{Request: req}})
	if err != nil {
		return Link{}, err
	}
	if results[0].err != nil {
		return Link{}, results[0].err
	}
	return c.dispatched(ctx, results[0].record)
}

// acceptable is [Request.Validate] and what accepting adds to it.
func (r Request) acceptable(d destinations) error { return invalid(r.allProblems(d)) }

func (r Request) allProblems(d destinations) []Problem {
	problems := r.problems()
	for _, p := range d.problems(&r) {
		if !slices.ContainsFunc(problems, func(q Problem) bool { return q.Key == p.Key }) {
			problems = append(problems, p)
		}
	}
	return problems
}

// dispatched sees to it that an interactive request that is queued has its
// task, and gives its link.
func (c *Client) dispatched(ctx context.Context, r request.Record) (Link, error) {
	if r.Lane == request.Interactive && r.State == request.Queued {
		if err := linktask.Enqueue(ctx, c.queue, c.keys.Account, r.Lane, r.Ref()); err != nil {
			return Link{}, err
		}
	}
	return c.link(ctx, r)
}

// waitBlock is how long one read of the results stream waits: a stop is noticed
// after that at the latest.
const waitBlock = time.Second

// Get returns the latest generation of a request, or [ErrNotFound].
func (c *Client) Get(ctx context.Context, applicationID string) (Link, error) {
	r, err := c.read(ctx, c.keys.Record(applicationID), applicationID)
	if err != nil {
		return Link{}, err
	}
	return c.link(ctx, r)
}

func (c *Client) read(ctx context.Context, key, applicationID string) (request.Record, error) {
	raw, err := c.rdb.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return request.Record{}, ErrNotFound
	}
	if err != nil {
		return request.Record{}, fmt.Errorf("read %s: %w", applicationID, err)
	}
	return request.Parse(applicationID, raw)
}

func (c *Client) link(ctx context.Context, r request.Record) (Link, error) {
	name, err := c.nameOf(ctx, r.Batch)
	if err != nil {
		return Link{}, fmt.Errorf("read the batch of %s: %w", r.ApplicationID, err)
	}
	return linkOf(r, name, c.now()), nil
}

// nameOf is remembered: a batch never changes its name.
func (c *Client) nameOf(ctx context.Context, number int) (string, error) {
	if number == 0 {
		return "", nil
	}
	if name, ok := c.names.Load(number); ok {
		return name, nil
	}
	name, err := c.rdb.HGet(ctx, c.keys.Batch(number), "name").Result()
	if err == nil {
		c.names.Store(number, name)
	}
	return name, err
}
