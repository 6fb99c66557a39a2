package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/stall"
)

// config is one run.
type config struct {
	seed     uint64
	duration time.Duration // of faults
	drain    time.Duration // for which it is waited at most afterwards
	gap      time.Duration // between two faults, about
	only     []string      // kinds; all where empty
	redis    string        // single, sentinel, cluster
	kyclink  string        // the program, built with the tag failpoint
	dir      string        // for everything that is left behind
	workers  int
	rate     float64 // that FaceKi allows, per second
	burst    int
	notes    io.Writer
}

// The credentials are looked for in what must not have them.
const clientSecret = "chaos-secret-3f9d2c71"

// rig is what a run works on.
type rig struct {
	cfg      config
	tag      keyspace.Keys
	people   people
	book     *book
	store    store
	rdb      redis.UniversalClient // the oracle's own
	upstream *upstream
	road     *road // to FaceKi
	fleet    *fleet
	receiver *receiver
	front    *front
	entries  entries
	stall    *stall.Watch
	closers  []func()
}

func open(cfg config) (_ *rig, err error) {
	r := &rig{cfg: cfg, tag: keyspace.Keys{Account: account}, book: newBook(), stall: stall.New(),
		people: people{seed: cfg.seed, began: time.Now().UTC().Truncate(time.Second)}}
	r.closers = append(r.closers, r.stall.Close)
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.store, err = openStore(cfg.redis, cfg.dir); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.store.close)
	r.rdb = r.store.client(false)
	r.closers = append(r.closers, func() { _ = r.rdb.Close() })
	if r.receiver, err = openReceiver(); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.receiver.close)
	r.people.hook = r.receiver.url()
	asked := func(id string) (call, bool) { return r.people.call(id), r.book.knows(id) }
	if r.upstream, err = openUpstream(simulator.Config{Script: script(cfg.seed), ClientSecret: clientSecret}, asked); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.upstream.close)
	if r.road, err = build("FaceKi", r.upstream.addr); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.road.close)
	r.fleet = &fleet{program: cfg.kyclink, dir: cfg.dir, inFlight: r.inFlight, settings: append([]string{
		"FACEKI_BASE_URL=http://" + r.road.addr(), "FACEKI_CLIENT_ID=chaos", "FACEKI_CLIENT_SECRET=" + clientSecret,
		fmt.Sprintf("FACEKI_RATE=%g/s", cfg.rate), fmt.Sprintf("FACEKI_BURST=%d", cfg.burst), "FACEKI_TIMEOUT=4s",
		"FACEKI_WORKFLOW_ID=" + defaultWorkflow, fmt.Sprintf("KYCLINK_EXPIRY_MINUTES=%d", defaultExpiry),
		"KYCLINK_LOG_FORMAT=json", "KYCLINK_LOG_LEVEL=debug",
	}, slices.Concat(r.store.settings(), r.receiver.settings())...)}
	return r, nil
}

func (r *rig) close() {
	for _, end := range slices.Backward(r.closers) {
		end()
	}
}

// inFlight gives the ids whose tasks some worker has.
func (r *rig) inFlight(ctx context.Context) (ids []string) {
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		active, _ := r.rdb.LRange(ctx, "asynq:{"+r.tag.Queue(lane)+"}:active", 0, -1).Result() // without Redis it is not known
		for _, task := range active {
			if ref, err := request.ParseRef(task); err == nil {
				ids = append(ids, ref.ApplicationID)
			}
		}
	}
	return ids
}

// kinds is what can be broken, or what of that was asked for.
func (r *rig) kinds() ([]kind, error) {
	long := r.cfg.duration >= 3*time.Minute
	all := slices.Concat(r.store.kinds(), r.fleet.kinds(long || len(r.cfg.only) > 0), r.upstreamKinds(long || len(r.cfg.only) > 0),
		r.receiver.kinds(), r.intakeKinds(), r.front.kinds(), r.importKinds())
	if len(r.cfg.only) == 0 {
		return all, nil
	}
	var chosen []kind
	var names []string
	for _, k := range all {
		names = append(names, k.name)
		if slices.Contains(r.cfg.only, k.name) || slices.Contains(r.cfg.only, k.group) {
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("there are no faults %v; there are %v", r.cfg.only, names)
	}
	return chosen, nil
}

// run breaks things while requests come in, lets everything drain, and checks.
// It returns the violations; an error means that the checks did not run.
func run(ctx context.Context, cfg config, out io.Writer) (wrong []string, err error) {
	r, err := open(cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if r.front, err = openFront(ctx, cfg.kyclink, cfg.dir, slices.Concat(r.store.settings(), r.receiver.settings(), []string{
		"KYCLINK_OPS_LISTEN=127.0.0.1:0", "KYCLINK_LOG_FORMAT=json"})); err != nil {
		return nil, err
	}
	served := sync.OnceValue(r.front.close)
	defer served()
	kinds, err := r.kinds()
	if err != nil {
		return nil, err
	}
	schedule := plan(cfg.seed, kinds, cfg.duration, cfg.gap)
	fmt.Fprintf(out, "seed %d, %v of faults, %d workers, %g/s\n", cfg.seed, cfg.duration, cfg.workers, cfg.rate)
	for _, o := range schedule {
		fmt.Fprintln(out, o)
	}
	if err := r.fleet.open(cfg.workers); err != nil {
		return nil, err
	}
	ended := false
	defer func() {
		if !ended {
			r.fleet.close()
		}
	}()
	f := figures{seed: cfg.seed}
	began := time.Now()
	injected, err := r.shake(ctx, schedule)
	if err != nil {
		return nil, err
	}
	f.asking, began = time.Since(began), time.Now()
	stuck, err := r.drain(ctx)
	if err != nil {
		return nil, err
	}
	f.draining = time.Since(began)
	wrong = slices.Concat(r.fleet.close(), served())
	ended = true
	if f.evidence, err = r.gather(ctx); err != nil {
		return wrong, err
	}
	f.evidence.injected, f.state = injected, r.upstream.State()
	wrong = slices.Concat(wrong, stuck, f.evidence.violations())
	leaks, err := r.leaks(f.evidence)
	f.table(out)
	return append(wrong, leaks...), err
}

// shake lets requests come in while the schedule is followed.
func (r *rig) shake(ctx context.Context, schedule []occasion) (map[string]int, error) {
	asking, enough := context.WithTimeout(ctx, r.cfg.duration)
	defer enough()
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		r.produce(asking, 0.6*r.cfg.rate)
	}()
	injected, err := follow(ctx, schedule, r.cfg.notes)
	if err != nil {
		enough()
	}
	<-produced
	return injected, errors.Join(err, ctx.Err())
}
