package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	workers "github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// producer requests links, or does what other clients and operators do.
type producer struct {
	name      string
	rdb       redis.UniversalClient
	client    *tasks.Client
	generator generator
	journal   *journal

	entries *entries // added to the intake stream
	random  *rand.Rand
	pace    float64 // requests per second
}

const requestTimeout = 3 * time.Second

// producerConfig lets producers request callbacks.
var producerConfig = tasks.Config{Callbacks: tasks.Callbacks{Hosts: []string{"127.0.0.1"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}

// produce runs all producers until ctx ends, with a total rate of new requests. Half of
// them connect to Redis through the proxy.
func (r *rig) produce(ctx context.Context, perSecond float64) {
	var running sync.WaitGroup
	begin := func(number uint64, share float64, faulty bool, do func(*producer, context.Context)) {
		rdb := r.store.client(faulty)
		p := &producer{
			name: fmt.Sprintf("p%d", number), rdb: rdb, client: tasks.NewClient(rdb, producerConfig), generator: r.generator, journal: r.journal, entries: &r.entries,
			random: rand.New(rand.NewPCG(r.cfg.seed, 100+number)), pace: perSecond * share,
		}
		running.Go(func() {
			defer func() { _ = rdb.Close() }()
			do(p, ctx)
		})
	}
	begin(1, 0.2, true, (*producer).signups)
	begin(2, 0.2, false, (*producer).signups)
	begin(3, 0.3, true, (*producer).imports)
	begin(4, 0.3, false, (*producer).imports)
	begin(5, 0.2, true, (*producer).repeats)
	begin(6, 0.1, false, (*producer).operate)
	begin(7, 0.1, true, func(p *producer, ctx context.Context) { r.addEntries(ctx, p) })
	begin(8, 0.1, false, func(p *producer, ctx context.Context) { r.apiServer.call(ctx, p) })
	running.Wait()
}

// each calls do at a rate until ctx ends. After a delay it catches up.
func (p *producer) each(ctx context.Context, pace float64, do func(n int)) {
	began := time.Now()
	for n := 1; ctx.Err() == nil; n++ {
		due := began.Add(time.Duration(float64(n) / pace * float64(time.Second)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
			do(n)
		}
	}
}

// kindOf returns the part of an application id that selects invalid requests and those with
// an early not_after; see generator and script.
func kindOf(n int) string {
	switch {
	case n%97 == 0:
		return "-bad-"
	case n%31 == 0:
		return "-late-"
	}
	return "-"
}

// signups enqueues single requests, with up to three attempts for each. After that it is
// unknown whether the request was accepted.
func (p *producer) signups(ctx context.Context) {
	p.each(ctx, p.pace, func(n int) {
		id := fmt.Sprintf("%s%s%d", p.name, kindOf(n), n)
		for range 3 {
			if p.enqueue(ctx, p.generator.request(id)) {
				return
			}
		}
	})
}

// enqueue reports whether the request was acknowledged or refused for good.
func (p *producer) enqueue(ctx context.Context, req tasks.Request) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	p.journal.addRequest(req.ApplicationID, max(req.Generation, 1))
	link, err := p.client.Enqueue(ctx, req)
	if err == nil {
		p.journal.acknowledge(req.ApplicationID, link.Generation)
		return true
	}
	return p.rejects(req, err)
}

// rejects reports whether an error means that the request was refused for good. It records
// a problem if the refusal is unexpected.
func (p *producer) rejects(req tasks.Request, err error) bool {
	if _, ok := errors.AsType[*tasks.GapError](err); ok && req.Generation > 1 {
		return true // the previous generation has not ended
	}
	if _, ok := errors.AsType[*tasks.InvalidError](err); ok {
		if !req.NotAfter.IsZero() {
			return true // not_after has passed
		}
		p.journal.addProblem("the valid request %s was refused as invalid: %v", req.ApplicationID, err)
		return true
	}
	if _, ok := errors.AsType[*tasks.ConflictError](err); ok {
		p.journal.addProblem("the request %s was repeated unchanged and refused as a conflict: %v", req.ApplicationID, err)
		return true
	}
	return false
}

const importRows = 150

// imports imports batches, each until all rows were acknowledged. Some rows repeat other
// rows or requests.
func (p *producer) imports(ctx context.Context) {
	p.each(ctx, p.pace/importRows, func(n int) {
		batch := fmt.Sprintf("%s-batch-%d", p.name, n)
		ids := make([]string, importRows)
		for i := range ids {
			ids[i] = fmt.Sprintf("%s%s%d", batch, kindOf(n*importRows+i), i)
			switch {
			case i > 0 && i%20 == 0:
				ids[i] = ids[p.random.IntN(i)]
			case i%33 == 0:
				if other := p.journal.anyID(p.random); other != "" {
					ids[i] = other
				}
			}
		}
		for tries := 0; tries < 10 && ctx.Err() == nil; tries++ {
			if p.importBatch(ctx, batch, ids) {
				return
			}
		}
	})
}

func (p *producer) importBatch(ctx context.Context, batch string, ids []string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	err := p.client.EnqueueAll(ctx, tasks.Batch{Name: batch}, p.rows(ids), func(r tasks.Result) {
		if r.Err != nil {
			p.rejects(r.Row.Request, r.Err)
			return
		}
		p.journal.acknowledge(r.Link.ApplicationID, r.Link.Generation)
	})
	return err == nil
}

func (p *producer) rows(ids []string) iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for i, id := range ids {
			p.journal.addRequest(id, 1)
			if !yield(tasks.Row{Number: i + 1, Request: p.generator.request(id)}, nil) {
				return
			}
		}
	}
}

// repeats repeats earlier requests, which moves bulk requests to the interactive lane.
// Sometimes it requests the next generation.
func (p *producer) repeats(ctx context.Context) {
	p.each(ctx, p.pace, func(n int) {
		id := p.journal.anyID(p.random)
		if id == "" {
			return
		}
		req := p.generator.request(id)
		if n%8 == 0 && req.NotAfter.IsZero() {
			req.Generation = 2
		}
		p.enqueue(ctx, req)
	})
}

// operate acts as an operator: it cancels some requests, and retries failed and held ones.
func (p *producer) operate(ctx context.Context) {
	stores := storage.New(p.rdb, storage.Config{Fleet: workers.Config{Account: account, Simulated: true}})
	p.each(ctx, p.pace, func(n int) {
		id := p.journal.anyID(p.random)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		r, ok, err := stores.Records.Get(ctx, id)
		if err != nil || !ok {
			return
		}
		switch {
		case r.State == request.Failed || r.State == request.Held:
			p.retry(ctx, stores, r)
		case n%6 == 0 && !r.State.Ended():
			p.journal.cancel(id)
			_, _ = stores.Requests.Cancel(ctx, r) // after an error, it is unknown whether it was cancelled
		}
	})
}

// retry starts another run of a failed request, or resumes a held one.
func (p *producer) retry(ctx context.Context, stores *storage.Stores, r request.Record) {
	updated, ok, err := stores.Requests.Retry(ctx, r)
	if err == nil && ok && updated.Lane == request.Interactive {
		// Repeating the request enqueues its task; otherwise the recovery does.
		_, _ = p.client.Enqueue(ctx, tasks.Request{ApplicationID: r.ApplicationID})
	}
}
