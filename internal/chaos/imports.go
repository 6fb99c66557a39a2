package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// importKinds is what can be done to imports. Whatever of their rows was accepted has
// to end, though nobody may ever import the rest.
func (r *rig) importKinds() []kind {
	const sec = time.Second
	return []kind{
		{"import-killed", "imports", sec, 3 * sec, r.killedImport(false)},
		{"import-killed-full", "imports", sec, 3 * sec, r.killedImport(true)},
	}
}

const (
	killedRows  = 90
	killedEvery = 30 // rows of the input to one that is asked for: an order of 27 chunks
)

var errKilled = errors.New("the importer was killed")

// killedImport imports a batch whose chunks come to Redis in any order, and kills the
// importer after some of them, in two cases of three for good. Where the lane is nearly
// full, rows of a chunk are accepted a few at a time.
func (r *rig) killedImport(full bool) inject {
	return func(ctx context.Context, o occasion) error {
		random := rand.New(rand.NewPCG(r.cfg.seed, o.chance))
		name := fmt.Sprintf("killed-%d", o.at.Milliseconds())
		cfg := hooked
		cfg.Account = account
		if full {
			cfg.MaxBacklog = 20 + random.IntN(200)
		}
		tries := 1
		if random.IntN(3) == 0 {
			tries = 2
		}
		for range tries {
			rdb := r.store.client(false)
			rdb.AddHook(&importer{random: random, left: 2 + random.IntN(killedRows*killedEvery/order.ChunkRows)})
			p := &producer{client: tasks.NewClient(rdb, cfg), people: r.people, book: r.book}
			importing, enough := context.WithTimeout(ctx, o.lasts)
			_ = p.client.EnqueueAll(importing, tasks.Batch{Name: name}, p.sparse(name), func(res tasks.Result) {
				if res.Err != nil {
					p.refused(res.Row.Request, res.Err)
					return
				}
				p.book.acknowledge(res.Link.ApplicationID, res.Link.Generation)
			}) // killed, out of time, or without a Redis
			enough()
			_ = rdb.Close()
		}
		return nil
	}
}

func (p *producer) sparse(batch string) func(yield func(tasks.Row, error) bool) {
	return func(yield func(tasks.Row, error) bool) {
		for i := range killedRows {
			id := fmt.Sprintf("%s%s%d", batch, kindOf(i), i)
			p.book.ask(id, 1)
			if !yield(tasks.Row{Number: 1 + i*killedEvery, Request: p.people.request(id)}, nil) {
				return
			}
		}
	}
}

// importer is a connection on which the scripts that accept chunks overtake one
// another, until the process is killed.
type importer struct {
	mu     sync.Mutex
	random *rand.Rand
	left   int // scripts before that
}

func (*importer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*importer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (i *importer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		i.mu.Lock()
		held := time.Duration(i.random.IntN(40)) * time.Millisecond
		i.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(held):
		}
		i.mu.Lock()
		i.left--
		killed := i.left < 0
		i.mu.Unlock()
		if killed {
			return errKilled
		}
		return next(ctx, cmd)
	}
}

// resumeBatches is what a person does with batches whose rows were refused as wrong
// again and again, as those are that are wrong and were retried.
func (r *rig) resumeBatches(ctx context.Context, books *storage.Stores) error {
	all, err := books.Batches.All(ctx)
	for _, b := range all {
		if b.RefusedMessage() != "" && err == nil {
			err = books.Batches.Control(ctx, b, batch.Resume)
		}
	}
	return err
}
