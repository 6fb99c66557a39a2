// Package tasks is the producer's side of kyclink: it accepts requests for KYC links in
// Redis, where workers find them, and reads the results.
//
// [Client] accepts requests and shows their state. [Results] reads the stream of
// events, and [VerifyCallback] checks a callback. A request can be repeated at any time
// and from any process: it never creates a second link.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/tracing"
)

// Config configures a [Client]. The zero value is usable.
type Config struct {
	// Account is the namespace of one FaceKi account, [a-z0-9-]{1,32}. The default is
	// "default".
	Account string
	// Callbacks restricts the callback_url of requests. The zero value allows none.
	Callbacks Callbacks
	// RedirectHosts are the hosts that a redirect_url may name, on any port. An empty
	// list or "*" allows every host.
	RedirectHosts []string
	// MaxBacklog is the maximum number of waiting and queued requests of a lane. Further
	// requests are refused with a [*BacklogError]. 0 means no limit. Each client has its
	// own limit: configure all clients alike.
	MaxBacklog int
	// OnFull is called several times a second, possibly concurrently, while
	// [Client.EnqueueAll] waits because a lane's backlog is full.
	OnFull func(*BacklogError)
	// TracerProvider receives a span for each call that accepts requests. If it is sampled,
	// its context is stored with the requests, and workers continue the trace. nil: none is
	// made or stored.
	TracerProvider trace.TracerProvider
}

// Client accepts requests and reads their state. It is safe for concurrent use.
type Client struct {
	rdb    redis.UniversalClient
	keys   keyspace.Keys
	queue  *asynq.Client
	names  *batchname.Cache
	limit  int // of a lane's backlog; 0 for none
	onFull func(*BacklogError)
	now    func() time.Time

	destinations destinations
	caller       Caller
	tracer       *tracing.Tracer // nil: no spans
}

// NewClient returns a client that uses rdb and does not close it.
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
		tracer:       tracing.New(cfg.TracerProvider),
	}
}

// Get returns the latest generation of a request, or [ErrNotFound].
func (c *Client) Get(ctx context.Context, applicationID string) (Link, error) {
	r, err := c.read(ctx, c.keys.Record(applicationID), applicationID)
	if err != nil {
		return Link{}, err
	}
	return c.link(ctx, &r)
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

func (c *Client) link(ctx context.Context, r *request.Record) (Link, error) {
	name, err := c.nameOf(ctx, r.Batch)
	if err != nil {
		return Link{}, fmt.Errorf("read the batch of %s: %w", r.ApplicationID, err)
	}
	return linkOf(r, name, c.now()), nil
}

// nameOf returns the name of a batch. It is cached, because it never changes.
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
