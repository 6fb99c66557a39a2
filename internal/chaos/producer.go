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

// producer asks for links, and does what producers and people do besides.
type producer struct {
	name   string
	rdb    redis.UniversalClient
	client *tasks.Client
	people people
	book   *book

	entries *entries // of the intake stream
	random  *rand.Rand
	pace    float64 // requests a second
}

const askWithin = 3 * time.Second

// hooked is the config of producers, which may ask for callbacks.
var hooked = tasks.Config{Callbacks: tasks.Callbacks{Hosts: []string{"127.0.0.1"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}

// produce runs all of them until ctx ends, at so many new requests a second.
func (r *rig) produce(ctx context.Context, perSecond float64) {
	var running sync.WaitGroup
	begin := func(number uint64, share float64, through bool, do func(*producer, context.Context)) {
		rdb := r.store.client(through)
		p := &producer{
			name: fmt.Sprintf("p%d", number), rdb: rdb, client: tasks.NewClient(rdb, hooked), people: r.people, book: r.book, entries: &r.entries,
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
	begin(7, 0.1, true, func(p *producer, ctx context.Context) { r.signUp(ctx, p) })
	begin(8, 0.1, false, func(p *producer, ctx context.Context) { r.front.call(ctx, p) })
	running.Wait()
}

// each does something at the producer's pace until ctx ends, and catches up
// where it was held up.
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

// kindOf makes some ids of a special kind, see people and script.
func kindOf(n int) string {
	switch {
	case n%97 == 0:
		return "-bad-"
	case n%31 == 0:
		return "-late-"
	}
	return "-"
}

// signups asks for one after the other, each until it is acknowledged, or three
// times: then nobody knows whether it was accepted.
func (p *producer) signups(ctx context.Context) {
	p.each(ctx, p.pace, func(n int) {
		id := fmt.Sprintf("%s%s%d", p.name, kindOf(n), n)
		for range 3 {
			if p.ask(ctx, p.people.request(id)) {
				return
			}
		}
	})
}

// ask says whether the request was acknowledged, or need not be asked for again.
func (p *producer) ask(ctx context.Context, req tasks.Request) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
	defer cancel()
	p.book.ask(req.ApplicationID, max(req.Generation, 1))
	link, err := p.client.Enqueue(ctx, req)
	if err == nil {
		p.book.acknowledge(req.ApplicationID, link.Generation)
		return true
	}
	return p.refused(req, err)
}

// refused says whether an error is about the request. Those that cannot be right
// are noted.
func (p *producer) refused(req tasks.Request, err error) bool {
	if _, ok := errors.AsType[*tasks.GapError](err); ok && req.Generation > 1 {
		return true // the one before has not ended
	}
	if _, ok := errors.AsType[*tasks.InvalidError](err); ok {
		if !req.NotAfter.IsZero() {
			return true // it came too late
		}
		p.book.complain("%s was refused as invalid: %v", req.ApplicationID, err)
		return true
	}
	if _, ok := errors.AsType[*tasks.ConflictError](err); ok {
		p.book.complain("%s was asked for with the same content and is a conflict: %v", req.ApplicationID, err)
		return true
	}
	return false
}

const importRows = 150

// imports brings one batch after the other in, and each one until all of it was
// acknowledged. Some rows repeat others, or ask for what a signup has.
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
				if other := p.book.any(p.random); other != "" {
					ids[i] = other
				}
			}
		}
		for tries := 0; tries < 10 && ctx.Err() == nil; tries++ {
			if p.bring(ctx, batch, ids) {
				return
			}
		}
	})
}

func (p *producer) bring(ctx context.Context, batch string, ids []string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
	defer cancel()
	err := p.client.EnqueueAll(ctx, tasks.Batch{Name: batch}, p.rows(ids), func(r tasks.Result) {
		if r.Err != nil {
			p.refused(r.Row.Request, r.Err)
			return
		}
		p.book.acknowledge(r.Link.ApplicationID, r.Link.Generation)
	})
	return err == nil
}

func (p *producer) rows(ids []string) iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for i, id := range ids {
			p.book.ask(id, 1)
			if !yield(tasks.Row{Number: i + 1, Request: p.people.request(id)}, nil) {
				return
			}
		}
	}
}

// repeats asks for what was asked for before: bulk requests come forward then.
// Now and then it asks for the next generation.
func (p *producer) repeats(ctx context.Context) {
	p.each(ctx, p.pace, func(n int) {
		id := p.book.any(p.random)
		if id == "" {
			return
		}
		req := p.people.request(id)
		if n%8 == 0 && req.NotAfter.IsZero() {
			req.Generation = 2
		}
		p.ask(ctx, req)
	})
}

// operate does what a person does: it cancels some, and lets failed and held
// ones go on.
func (p *producer) operate(ctx context.Context) {
	books := storage.New(p.rdb, storage.Config{Fleet: workers.Config{Account: account, Simulated: true}})
	p.each(ctx, p.pace, func(n int) {
		id := p.book.any(p.random)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
		defer cancel()
		r, ok, err := books.Records.Get(ctx, id)
		if err != nil || !ok {
			return
		}
		switch {
		case r.State == request.Failed || r.State == request.Held:
			p.goOn(ctx, books, r)
		case n%6 == 0 && !r.State.Ended():
			p.book.cancel(id)
			_, _ = books.Requests.Cancel(ctx, r) // where it fails, nobody knows
		}
	})
}

// goOn starts another run of a failed request, or lets a held one go on.
func (p *producer) goOn(ctx context.Context, books *storage.Stores, r request.Record) {
	now, ok, err := books.Requests.Retry(ctx, r)
	if err == nil && ok && now.Lane == request.Interactive {
		// Asking again enqueues the task; without it the sweep does.
		_, _ = p.client.Enqueue(ctx, tasks.Request{ApplicationID: r.ApplicationID})
	}
}
