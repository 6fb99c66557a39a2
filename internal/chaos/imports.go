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

// importKinds returns the faults of imports. Every accepted row must end, even if the import
// is never completed.
func (r *rig) importKinds() []kind {
	const sec = time.Second
	return []kind{
		{"import-killed", "imports", sec, 3 * sec, r.killedImport(false)},
		{"import-killed-full", "imports", sec, 3 * sec, r.killedImport(true)},
	}
}

const (
	killedRows  = 90
	killedEvery = 30 // distance of the rows in the input, which has 27 chunks
)

var errKilled = errors.New("the importer was killed")

// killedImport imports a batch whose chunks reach Redis in random order, and stops the
// import after some of them. One import in three is repeated once. If full is set, the
// backlog is nearly full, so that the rows of a chunk are accepted a few at a time.
func (r *rig) killedImport(full bool) injectFunc {
	return func(ctx context.Context, o injection) error {
		random := rand.New(rand.NewPCG(r.cfg.seed, o.random))
		name := fmt.Sprintf("killed-%d", o.at.Milliseconds())
		cfg := producerConfig
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
			rdb.AddHook(&importer{random: random, remaining: 2 + random.IntN(killedRows*killedEvery/order.ChunkRows)})
			p := &producer{client: tasks.NewClient(rdb, cfg), generator: r.generator, journal: r.journal}
			importing, stop := context.WithTimeout(ctx, o.duration)
			_ = p.client.EnqueueAll(importing, tasks.Batch{Name: name}, p.sparseRows(name), func(res tasks.Result) {
				if res.Err != nil {
					p.rejects(res.Row.Request, res.Err)
					return
				}
				p.journal.acknowledge(res.Link.ApplicationID, res.Link.Generation)
			}) // fails if it is killed, times out or cannot reach Redis
			stop()
			_ = rdb.Close()
		}
		return nil
	}
}

// sparseRows returns rows whose numbers have large gaps.
func (p *producer) sparseRows(batch string) func(yield func(tasks.Row, error) bool) {
	return func(yield func(tasks.Row, error) bool) {
		for i := range killedRows {
			id := fmt.Sprintf("%s%s%d", batch, kindOf(i), i)
			p.journal.addRequest(id, 1)
			if !yield(tasks.Row{Number: 1 + i*killedEvery, Request: p.generator.request(id)}, nil) {
				return
			}
		}
	}
}

// importer is a Redis hook that delays scripts randomly, so that their order changes, and
// fails all scripts after the simulated end of the process.
type importer struct {
	mu        sync.Mutex
	random    *rand.Rand
	remaining int // scripts until the simulated end
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
		delay := time.Duration(i.random.IntN(40)) * time.Millisecond
		i.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
		i.mu.Lock()
		i.remaining--
		killed := i.remaining < 0
		i.mu.Unlock()
		if killed {
			return errKilled
		}
		return next(ctx, cmd)
	}
}

// resumeBatches resumes batches that were paused because FaceKi refused several of their
// rows in succession, as an operator does.
func (r *rig) resumeBatches(ctx context.Context, stores *storage.Stores) error {
	all, err := stores.Batches.All(ctx)
	for _, b := range all {
		if b.RefusedMessage() != "" && err == nil {
			err = stores.Batches.Control(ctx, b, batch.Resume)
		}
	}
	return err
}
