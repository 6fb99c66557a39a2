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

// ResultsConfig says who reads, and how. Zero values mean the defaults given.
type ResultsConfig struct {
	// Account is the namespace of one FaceKi account; "default".
	Account string
	// Group names those who share the events among them: each event goes to one of
	// its consumers. It has no default. Every group gets all events.
	Group string
	// Consumer names this process within its group; the host's name. No two that
	// live may have the same, and one that is started again should have the one
	// that it had: it then begins with what it had not acknowledged.
	Consumer string
	// From is the id of a stream entry after which a group begins that is not there
	// yet: "0", the oldest that is kept; "$" is only what comes from now on.
	From string
	// Concurrency is how many calls of the handler may be under way; 10.
	Concurrency int
	// ClaimAfter is how long a consumer must have been silent for its events to go
	// to others; a minute. A second is the least.
	ClaimAfter time.Duration
	// OnError is told of what is tried again: a handler that failed, a Redis that is
	// away; and of entries that are no events and were passed over. It holds
	// nothing of what an event says but its id, and what the handler's error says.
	OnError func(error)
}

// Results reads the results stream as one consumer of a group.
//
// Delivery is at least once: an event is acknowledged after its handler returned
// nil, and is handed out again where that did not come to pass, because the handler
// failed, the process died, or the acknowledgement was lost. What must not happen
// twice is to be made so by [Event].ID, which is the same each time: a unique key in
// the handler's own database, written in the transaction that does the work.
//
// Events come in order to a handler that is called for one after the other by the
// only consumer of its group, but for those that come again. Elsewhere Generation
// and Run, and within a run its end, tell which of one request's is the later.
type Results struct {
	rdb    redis.UniversalClient
	cfg    ResultsConfig
	stream string
}

// NewResults makes a reader that uses, and does not close, rdb. It needs one
// connection of rdb's pool for itself while it runs, and a second now and then.
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

// Run hands every event to handle, several at a time, until ctx is done. It then
// takes no more, lets handlers end for up to 10 seconds, acknowledges what they
// did, and returns nil; what is left is handed out again, to whoever comes first.
// The context of a handler ends with those 10 seconds, and not with ctx; Run does
// not return before the last handler has.
//
// An event whose handler fails comes again after a second, and then after twice as
// long each time, up to a minute, to the same process; it keeps no slot meanwhile.
// While many fail nothing new is taken. A Redis that is away is waited for. Run
// fails only where there is no group or no consumer to read as.
func (r *Results) Run(ctx context.Context, handle func(ctx context.Context, e Event) error) error {
	return r.RunBatches(ctx, 1, func(ctx context.Context, events []Event) error { return handle(ctx, events[0]) })
}

// RunBatches is [Results.Run] for handlers that are faster with many at a time: up
// to most, as many as are there. Where handle fails all of them come again, one at
// a time, so that one that cannot be handled keeps none of the others.
func (r *Results) RunBatches(ctx context.Context, most int, handle func(ctx context.Context, events []Event) error) error {
	return r.run(ctx, most, handle, false)
}

// Drain is [Results.RunBatches] that ends when the group has nothing more for this
// process.
func (r *Results) Drain(ctx context.Context, most int, handle func(ctx context.Context, events []Event) error) error {
	return r.run(ctx, most, handle, true)
}

const (
	stopPatience = 10 * time.Second // for handlers and acknowledgements
	firstPause   = time.Second      // after a handler failed
	lastPause    = time.Minute
	leastInHand  = 256  // events that one process has, so that a few bad ones do not stop it
	maxGroup     = 1024 // bytes of a group's name
	perCommand   = 500  // entries, so that no command holds Redis for long
)

func (r *Results) run(ctx context.Context, most int, handle func(ctx context.Context, events []Event) error, drain bool) error {
	if r.cfg.Group == "" || r.cfg.Consumer == "" {
		return errors.New("results: a group and a consumer are needed to read as; set ResultsConfig.Group and ResultsConfig.Consumer")
	}
	if problem := legible.WrongName(r.cfg.Group, maxGroup); problem != "" {
		return fmt.Errorf("results: the group's name %s", problem)
	}
	most = max(most, 1)
	handling, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s := &session{
		Results: r, handle: handle, most: most, stopping: ctx, handling: handling,
		slots: semaphore.NewWeighted(int64(r.cfg.Concurrency)),
		hand:  newHand(max(leastInHand, 2*r.cfg.Concurrency*most)),
		acks:  make(chan []string),
	}
	var keeping, acking sync.WaitGroup
	keeping.Go(s.keep)
	acking.Go(s.acknowledge)
	s.read(drain)

	over := make(chan struct{})
	go func() {
		defer close(over)
		s.handlers.Wait()
		close(s.acks)
		acking.Wait()
	}()
	select {
	case <-over:
	case <-ctx.Done():
		select {
		case <-over:
		case <-time.After(stopPatience):
			end()
			<-over
		}
	}
	end()
	keeping.Wait()
	s.giveBack(context.WithoutCancel(ctx))
	return nil
}

// session is one run of a reader.
type session struct {
	*Results
	handle   func(ctx context.Context, events []Event) error
	most     int
	stopping context.Context //nolint:containedctx // of the session: nothing is taken any more
	handling context.Context //nolint:containedctx // the same: nothing is waited for any more
	handlers sync.WaitGroup
	slots    *semaphore.Weighted
	hand     *hand
	last     atomic.Value // string, the entry that was read last; none: nothing was
	acks     chan []string
}

// taken is an entry that this process is to handle.
type taken struct {
	entry string
	event Event
}

// take starts handling entries, but for those that are in hand already.
func (s *session) take(entries []redis.XMessage) {
	var all []taken
	var passed []string
	for _, entry := range entries {
		if !s.hand.add(entry.ID) {
			continue
		}
		event, err := ParseEvent(entry.Values)
		switch {
		case len(entry.Values) == 0: // it is not kept any more
			passed = append(passed, entry.ID)
		case err != nil:
			s.cfg.OnError(fmt.Errorf("results: entry %s is passed over: %w", entry.ID, err))
			passed = append(passed, entry.ID)
		default:
			all = append(all, taken{entry.ID, event})
		}
	}
	if len(passed) > 0 {
		s.handlers.Go(func() { s.acks <- passed })
	}
	for part := range slices.Chunk(all, s.most) {
		if s.slots.Acquire(s.stopping, 1) != nil {
			return
		}
		s.handlers.Go(func() { s.see(part) })
	}
}

// see hands events to the handler until it has done them. It begins with a slot.
func (s *session) see(part []taken) {
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
			s.cfg.OnError(fmt.Errorf("results: %d events could not be handled together, and come again one at a time: %w", len(part), err))
			for i := range part {
				s.handlers.Go(func() {
					if s.slots.Acquire(s.stopping, 1) == nil {
						s.see(part[i : i+1])
					}
				})
			}
			return
		}
		s.cfg.OnError(fmt.Errorf("results: event %s could not be handled, and comes again in %v: %w", part[0].event.ID, pause, err))
		select {
		case <-s.stopping.Done(): // whoever comes first gets it
			return
		case <-time.After(pause):
		}
		if s.slots.Acquire(s.stopping, 1) != nil {
			return
		}
	}
}

func (s *session) call(part []taken) error {
	defer s.slots.Release(1)
	events := make([]Event, len(part))
	for i, t := range part {
		events[i] = t.event
	}
	return s.handle(s.handling, events)
}
