package tasks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/legible"
)

// ResultsConfig configures [Results]. Zero values mean the documented defaults.
type ResultsConfig struct {
	// Account is the namespace of one FaceKi account. The default is "default".
	Account string
	// Group is the name of a consumer group. Every group receives all events; each event
	// goes to one consumer of the group. It is required.
	Group string
	// Consumer is the name of this process in its group. The default is the host name. It
	// must be unique among running processes. A restarted process should keep its name: it
	// then starts with the events that it had not acknowledged.
	Consumer string
	// From is the ID of the stream entry after which a new group starts. The default, "0",
	// starts with the oldest entry; "$" with the next new one.
	From string
	// Concurrency is the number of concurrent handler calls. The default is 10.
	Concurrency int
	// ClaimAfter is how long a consumer must be silent before others take over its events.
	// The default is a minute, the minimum a second.
	ClaimAfter time.Duration
	// OnError is called for errors after which reading continues: a failed handler, an
	// unreachable Redis, and a skipped entry that is not an event. The errors contain the
	// ID of an event and the handler's error, but nothing else of the event.
	OnError func(error)
}

// Results reads the results stream as one consumer of a group.
//
// Events are delivered at least once. An event is acknowledged after its handler returned
// nil. It is delivered again if the handler failed, the process died, or the
// acknowledgement was lost. To handle an event only once, use [Event].ID, which is the same
// each time: store it as a unique key in the transaction that does the work.
//
// Events arrive in order, except repeated ones, if the group has one consumer with a
// Concurrency of 1. Otherwise, Generation and Run tell which event of a request is later;
// within a run, the end is the last event.
type Results struct {
	rdb    redis.UniversalClient
	cfg    ResultsConfig
	stream string
}

// NewResults returns a reader that uses rdb and does not close it. While it runs, it needs
// one connection of rdb's pool permanently, and another one briefly.
func NewResults(rdb redis.UniversalClient, cfg ResultsConfig) *Results {
	if cfg.Account == "" {
		cfg.Account = "default"
	}
	if cfg.Consumer == "" {
		cfg.Consumer, _ = os.Hostname()
	}
	if cfg.From == "" {
		cfg.From = "0"
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 10
	}
	if cfg.ClaimAfter == 0 {
		cfg.ClaimAfter = time.Minute
	}
	cfg.ClaimAfter = max(cfg.ClaimAfter, time.Second)
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	return &Results{
		rdb: rdb, cfg: cfg, stream: keyspace.Keys{Account: cfg.Account}.Results(),
	}
}

// Run calls handle for every event, several at a time, until ctx ends. It then takes no
// more events, lets handlers finish for up to 10 seconds, acknowledges their events, and
// returns nil. Other events are delivered again to any consumer. The context of a handler
// ends after those 10 seconds, not with ctx. Run returns after the last handler.
//
// An event whose handler fails is handled again by the same process after a second, then
// after twice as long each time, up to a minute. It does not count against Concurrency
// meanwhile. While many events fail, no new ones are taken. Run waits while Redis is
// unreachable. It fails only if the group or the consumer is missing or invalid, or if the
// user of rdb lacks a permission.
func (r *Results) Run(ctx context.Context, handle func(ctx context.Context, e Event) error) error {
	return r.RunBatches(ctx, 1, func(ctx context.Context, events []Event) error { return handle(ctx, events[0]) })
}

// RunBatches is [Results.Run] for handlers that are faster with several events: it passes
// as many as are available, up to most. If handle fails, these events are handled again
// one at a time, so that one bad event does not block the others.
func (r *Results) RunBatches(ctx context.Context, most int, handle func(ctx context.Context, events []Event) error) error {
	return r.run(ctx, most, handle, false)
}

// Drain is [Results.RunBatches], but returns when the group has no more events for this
// process.
func (r *Results) Drain(ctx context.Context, most int, handle func(ctx context.Context, events []Event) error) error {
	return r.run(ctx, most, handle, true)
}

const (
	drainTimeout = 10 * time.Second // for handlers and acknowledgements at a stop
	firstPause   = time.Second      // after a failed handler
	lastPause    = time.Minute
	minPending   = 256  // events that one process may have, so that a few bad ones do not stop it
	maxGroup     = 1024 // bytes of a group's name
	perCommand   = 500  // entries per command, so that none blocks Redis for long
)

func (r *Results) run(ctx context.Context, most int, handle func(ctx context.Context, events []Event) error, drain bool) error {
	if r.cfg.Group == "" || r.cfg.Consumer == "" {
		return errors.New("results: ResultsConfig.Group and ResultsConfig.Consumer must be set")
	}
	if problem := legible.WrongName(r.cfg.Group, maxGroup); problem != "" {
		return fmt.Errorf("results: group name: %s", problem)
	}
	most = max(most, 1)
	handling, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &session{
		Results: r, handle: handle, most: most, stopping: ctx, fail: fail, handling: handling,
		slots:   semaphore.NewWeighted(int64(r.cfg.Concurrency)),
		pending: newPending(max(minPending, 2*r.cfg.Concurrency*most)),
		acks:    make(chan []string),
	}
	var heartbeats, acks sync.WaitGroup
	heartbeats.Go(s.heartbeats)
	acks.Go(s.acknowledge)
	s.read(drain)

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.handlers.Wait()
		close(s.acks)
		acks.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(drainTimeout):
			end()
			<-done
		}
	}
	end()
	heartbeats.Wait()
	s.releaseUnhandled(context.WithoutCancel(ctx))
	if refused, ok := errors.AsType[*refusedError](context.Cause(ctx)); ok {
		return refused
	}
	return nil
}

// session is one run of [Results].
type session struct {
	*Results
	handle   func(ctx context.Context, events []Event) error
	most     int
	stopping context.Context         //nolint:containedctx // once it ends, no more events are taken
	fail     context.CancelCauseFunc // ends stopping
	handling context.Context         //nolint:containedctx // once it ends, handlers and acknowledgements are abandoned
	handlers sync.WaitGroup
	slots    *semaphore.Weighted
	pending  *pending
	last     atomic.Value // string: the last entry that was read
	acks     chan []string
}

// delivery is an entry that this process handles.
type delivery struct {
	entry string
	event Event
}

// take starts handling entries that are not pending yet.
func (s *session) take(entries []redis.XMessage) {
	var all []delivery
	var skipped []string
	for _, entry := range entries {
		if !s.pending.add(entry.ID) {
			continue
		}
		event, err := ParseEvent(entry.Values)
		switch {
		case len(entry.Values) == 0: // it has been trimmed
			skipped = append(skipped, entry.ID)
		case err != nil:
			s.cfg.OnError(fmt.Errorf("results: skipped entry %s: %w", entry.ID, err))
			skipped = append(skipped, entry.ID)
		default:
			all = append(all, delivery{entry.ID, event})
		}
	}
	if len(skipped) > 0 {
		s.handlers.Go(func() { s.acks <- skipped })
	}
	for part := range slices.Chunk(all, s.most) {
		if s.slots.Acquire(s.stopping, 1) != nil {
			return
		}
		s.handlers.Go(func() { s.process(part) })
	}
}

// process calls the handler until it succeeds. The caller has acquired a slot.
func (s *session) process(part []delivery) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := s.call(part)
		if err == nil {
			entries := make([]string, len(part))
			for i, t := range part {
				entries[i] = t.entry
			}
			s.acks <- entries
			return
		}
		if len(part) > 1 {
			s.cfg.OnError(fmt.Errorf("results: handler failed for %d events; retrying one at a time: %w", len(part), err))
			for i := range part {
				s.handlers.Go(func() {
					if s.slots.Acquire(s.stopping, 1) == nil {
						s.process(part[i : i+1])
					}
				})
			}
			return
		}
		s.cfg.OnError(fmt.Errorf("results: handler failed for event %s; retrying in %v: %w", part[0].event.ID, pause, err))
		select {
		case <-s.stopping.Done(): // another consumer gets it
			return
		case <-time.After(pause):
		}
		if s.slots.Acquire(s.stopping, 1) != nil {
			return
		}
	}
}

func (s *session) call(part []delivery) error {
	defer s.slots.Release(1)
	events := make([]Event, len(part))
	for i, t := range part {
		events[i] = t.event
	}
	return s.handle(s.handling, events)
}
