package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	forgetPage = 500
	// usualCall is how long a call takes at most, and its answer to be recorded,
	// where nothing else is set.
	usualCall = 20 * time.Second
	// tasksBack is how many turns and runs before the latest may still have a task:
	// one that was promoted, passed on or cancelled while it was queued.
	tasksBack = 20
)

// forgetting is one walk over what is to be erased.
type forgetting struct {
	book      *ledger.Ledger
	rdb       redis.UniversalClient
	inspector *asynq.Inspector
	w         io.Writer
	batch     ledger.Batch // its name and number, where a batch is forgotten
	aside     map[string]bool
	done      forgotten
	left      int           // that are being called, or handled
	wait      time.Duration // until these can be forgotten
}

func newForgetting(e *engine, book *ledger.Ledger, w io.Writer) *forgetting {
	return &forgetting{book: book, rdb: e.rdb, inspector: asynq.NewInspectorFromRedisClient(e.rdb), w: w}
}

// refusal says why something was left.
func (f *forgetting) refusal() error {
	if f.left == 0 {
		return nil
	}
	return fmt.Errorf("%d left: being called, or in the hands of a worker; what is called is cancelled as soon as it has an answer; try again in %d s", f.left, int(math.Ceil(f.wait.Seconds())))
}

// look says how many requests are meant.
func (f *forgetting) look(ctx context.Context, ids []string) (total int, err error) {
	if f.batch.Number != 0 {
		f.batch, _, err = f.book.Batch(ctx, f.batch.Number)
		return f.batch.Rows - f.batch.Joined - f.batch.Counts[ledger.Erased], err
	}
	for page := range slices.Chunk(ids, forgetPage) {
		found, err := f.book.Latest(ctx, page)
		if err != nil {
			return 0, err
		}
		for i, raw := range found {
			if raw != nil {
				total++
				continue
			}
			fmt.Fprintf(f.w, "kyclink: %s: no request has this application ID; what else names it goes\n", page[i])
		}
	}
	return total, nil
}

// all erases what is meant, then what names it elsewhere: what is broken off in
// between finds no record the next time, and does that all the same.
func (f *forgetting) all(ctx context.Context, ids []string) (err error) {
	if f.aside, err = f.book.AsideNames(ctx); err != nil {
		return err
	}
	whom := ledger.Whom{Batch: f.batch.Batch}
	if f.batch.Number != 0 {
		err = f.wholeBatch(ctx)
	} else {
		whom.IDs = map[string]bool{}
		for page := range slices.Chunk(ids, forgetPage) {
			var gone []string
			if gone, err = f.some(ctx, page); err != nil {
				return err
			}
			for _, id := range gone {
				whom.IDs[id] = true
			}
		}
	}
	if err != nil {
		return err
	}
	n, err := f.book.Scrub(ctx)
	f.done.Rows += n
	if err != nil {
		return err
	}
	n, err = f.book.ForgetEvents(ctx, whom)
	f.done.Events += n
	if err != nil || len(whom.IDs) == 0 {
		return err
	}
	if n, err = f.book.ForgetAside(ctx, whom.IDs); err == nil {
		f.done.Aside += n
		n, err = f.book.ForgetEntries(ctx, whom.IDs)
		f.done.Entries += n
	}
	return err
}

// wholeBatch cancels a batch and erases what it accepted first.
func (f *forgetting) wholeBatch(ctx context.Context) error {
	if err := f.book.Steer(ctx, f.batch, ledger.CloseBatch); err != nil {
		return err
	}
	if err := f.book.CallOff(ctx, f.batch.Number, func(int) {}); err != nil {
		return err
	}
	for _, walk := range []iter.Seq2[[]string, error]{f.inOrder(ctx), f.book.Accepted(ctx, f.batch.Number)} {
		for ids, err := range walk {
			if err == nil {
				_, err = f.some(ctx, ids)
			}
			if err != nil {
				return err
			}
		}
		// What an import accepted that was broken off is in no row.
		b, _, err := f.book.Batch(ctx, f.batch.Number)
		if err != nil {
			return err
		}
		if b.Rows == b.Counts[ledger.Erased]+b.Joined {
			return f.book.DropOrder(ctx, f.batch.Number)
		}
		if b.Rows == b.Counts[ledger.Erased]+b.Joined+f.left {
			return nil
		}
		f.left = 0
	}
	return nil
}

func (f *forgetting) inOrder(ctx context.Context) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for page, err := range f.book.Own(ctx, f.batch.Number) {
			ids := make([]string, len(page))
			for i, r := range page {
				ids[i] = r.ApplicationID
			}
			if !yield(ids, err) || err != nil {
				return
			}
		}
	}
}

// some erases requests, and gives those of which nothing is kept then.
func (f *forgetting) some(ctx context.Context, ids []string) (gone []string, err error) {
	busy, err := f.prepare(ctx, ids)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return busy[id] })
	for range len(busy) {
		f.leave(time.Second)
	}
	all, err := f.book.Erase(ctx, ids)
	for _, e := range all {
		f.done.Generations += e.Generations
		f.done.Rows += e.Rows
		switch {
		case e.Erased:
			f.done.Requests++
			gone = append(gone, e.ApplicationID)
		case e.Broken:
			return gone, fmt.Errorf("%s was written by a newer version of kyclink; forget it with that", e.ApplicationID)
		case e.State == "":
			gone = append(gone, e.ApplicationID)
		default:
			f.leave(max(time.Second, usualCall-time.Since(e.Since)))
		}
	}
	return gone, err
}

// leave counts one that is being called.
func (f *forgetting) leave(wait time.Duration) {
	f.left++
	f.wait = max(f.wait, wait)
}

// prepare cancels what has not ended, and drops the tasks. Of busy ones a handler
// has the task at this moment.
func (f *forgetting) prepare(ctx context.Context, ids []string) (busy map[string]bool, err error) {
	named := map[string]bool{}
	for _, id := range ids {
		if f.aside[id] {
			named[id] = true
		}
	}
	if len(named) > 0 {
		n, err := f.book.ForgetAside(ctx, named)
		if f.done.Aside += n; err != nil {
			return nil, err
		}
	}
	found, err := f.book.Headers(ctx, ids)
	if err != nil {
		return nil, err
	}
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(actors)
	for _, r := range found {
		if !r.State.Ended() {
			group.Go(func() error {
				_, err := f.book.Cancel(going, r)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return f.dropTasks(ctx, found)
}

// dropTasks looks for the tasks that turns of requests may still have.
func (f *forgetting) dropTasks(ctx context.Context, found []request.Record) (busy map[string]bool, err error) {
	busy = map[string]bool{}
	type place struct {
		ref  request.Ref
		lane request.Lane
	}
	looks := map[place]*redis.StringCmd{}
	if _, err := f.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, r := range found {
			for _, ref := range turns(r) {
				for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
					key := "asynq:{" + f.book.Keys().Queue(lane) + "}:t:" + ref.String()
					looks[place{ref, lane}] = pipe.HGet(ctx, key, "state")
				}
			}
		}
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look for tasks: %w", err)
	}
	refs := map[request.Ref]bool{}
	for p, look := range looks {
		refs[p.ref] = true
		if look.Err() != nil { // there is none
			continue
		}
		err := f.inspector.DeleteTask(f.book.Keys().Queue(p.lane), p.ref.String())
		switch {
		case err == nil:
			f.done.Tasks++
		case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
		default:
			busy[p.ref.ApplicationID] = true
		}
	}
	if err := f.dropCallbacks(ctx, found, busy); err != nil {
		return busy, err
	}
	return busy, f.book.DropPanics(ctx, slices.Collect(maps.Keys(refs)))
}

// dropCallbacks drops the tasks of deliveries. One that a handler has sees its
// attempt through.
func (f *forgetting) dropCallbacks(ctx context.Context, found []request.Record, busy map[string]bool) error {
	queue := f.book.Keys().Queue(request.Callbacks)
	ids := make([]string, len(found))
	for i, r := range found {
		ids[i] = r.ApplicationID
	}
	events, err := f.book.DeliveryEvents(ctx, ids)
	if err != nil {
		return err
	}
	for i, id := range ids {
		for _, event := range events[i] {
			err := f.inspector.DeleteTask(queue, event)
			switch {
			case err == nil:
				f.done.Tasks++
			case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
			default:
				busy[id] = true
			}
		}
	}
	return nil
}

// turns are those of a request that may still have a task.
func turns(r request.Record) (refs []request.Ref) {
	for run := max(1, r.Run-tasksBack); run <= r.Run; run++ {
		for turn := max(0, r.Turn-tasksBack); turn <= r.Turn; turn++ {
			refs = append(refs, request.Ref{ApplicationID: r.ApplicationID, Generation: r.Generation, Run: run, Turn: turn})
		}
	}
	return refs
}
