package operator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/tasks"
)

// Events reads the results stream, in pages, with or without a group.
type Events struct {
	// Group shares the events among all readers of this group, and acknowledges them when
	// Print has returned; empty to read without a group.
	Group    string
	Consumer string // name within the group; by default the host's
	// From is where to begin, or where a new group does: "start", "now", or see
	// [ParseTime]. Empty means now if Follow is set and there is no group, else start.
	From   string
	Follow bool // wait for more events at the end

	Print func([]tasks.Event) error // its error ends the reading
	Warn  func(error)               // reports errors that do not end the reading
}

const (
	eventsPage    = 500
	retryInterval = time.Second // between attempts to read while Redis fails
	readBlock     = time.Second // how long a read waits for events
)

// Run reads to the end of the stream or, with Follow, until ctx ends.
func (e *Events) Run(ctx context.Context, o *Operator) error {
	after, err := e.after(ctx, o)
	if err != nil {
		return err
	}
	if e.Group == "" {
		err = e.readPlain(ctx, o, after)
	} else {
		err = e.readGroup(ctx, o, after)
	}
	return errors.Join(err, ctx.Err())
}

// latest is the place after the latest entry of a stream.
const latest = "$"

// after is the ID of the entry after which to begin.
func (e *Events) after(ctx context.Context, o *Operator) (string, error) {
	switch {
	case e.From == "start", e.From == "" && (!e.Follow || e.Group != ""):
		return "0", nil
	case e.From == "now", e.From == "":
		return latest, nil
	}
	now, err := o.Now(ctx)
	if err != nil {
		return "", err
	}
	from, err := ParseTime(e.From, now)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d-%d", max(from.UnixMilli()-1, 0), uint64(math.MaxUint64)), nil
}

// printError is an error of Print.
type printError struct{ err error }

func (e *printError) Error() string {
	return fmt.Sprintf("write the events: %v; what was not written is not acknowledged", e.err)
}

func (e *printError) Unwrap() error { return e.err }

// readGroup reads as one consumer of a group.
func (e *Events) readGroup(ctx context.Context, o *Operator, after string) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	results := tasks.NewResults(o.rdb, tasks.ResultsConfig{
		Account: o.account, Group: e.Group, Consumer: e.Consumer, From: after, Concurrency: 1,
		OnError: func(err error) {
			if _, ours := errors.AsType[*printError](err); !ours {
				e.Warn(err)
			}
		},
	})
	read := results.Drain
	if e.Follow {
		read = results.RunBatches
	}
	err := read(ctx, eventsPage, func(_ context.Context, events []tasks.Event) error {
		if err := e.Print(events); err != nil {
			stop(&printError{err})
			return &printError{err}
		}
		return nil
	})
	if failed, ok := errors.AsType[*printError](context.Cause(ctx)); ok {
		return failed
	}
	return err
}

// readPlain reads without a group. With Follow it repeats reads that fail.
func (e *Events) readPlain(ctx context.Context, o *Operator, after string) error {
	key := o.stores.Keys.Results()
	if after == latest {
		last, err := o.rdb.XRevRangeN(ctx, key, "+", "-", 1).Result()
		if err != nil {
			return fmt.Errorf("read the results stream: %w", err)
		}
		after = "0"
		if len(last) > 0 {
			after = last[0].ID
		}
	}
	for failing := false; ctx.Err() == nil; {
		entries, err := e.next(ctx, o.rdb, key, after)
		if err != nil && (!e.Follow || ctx.Err() != nil) {
			return fmt.Errorf("read the results stream: %w", err)
		}
		if err != nil {
			if !failing {
				e.Warn(fmt.Errorf("read the results stream: %w; trying again every second", err))
			}
			failing = true
			select {
			case <-ctx.Done():
			case <-time.After(retryInterval):
			}
			continue
		}
		if failing = false; len(entries) == 0 && !e.Follow {
			return nil
		}
		if len(entries) > 0 {
			after = entries[len(entries)-1].ID
		}
		if err := e.Print(e.parse(entries)); err != nil {
			return fmt.Errorf("write the events: %w", err)
		}
	}
	return nil
}

// parse reports entries that it cannot read.
func (e *Events) parse(entries []redis.XMessage) []tasks.Event {
	events := make([]tasks.Event, 0, len(entries))
	for _, entry := range entries {
		event, err := tasks.ParseEvent(entry.Values)
		if err != nil {
			e.Warn(fmt.Errorf("skipped entry %s: %w", entry.ID, err))
			continue
		}
		events = append(events, event)
	}
	return events
}

func (e *Events) next(ctx context.Context, rdb redis.UniversalClient, key, after string) ([]redis.XMessage, error) {
	if !e.Follow {
		return rdb.XRangeN(ctx, key, "("+after, "+", eventsPage).Result()
	}
	streams, err := rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{key, after}, Count: eventsPage, Block: readBlock}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	return streams[0].Messages, nil
}
