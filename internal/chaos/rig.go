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

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/stall"
)

// config holds the options of a run.
type config struct {
	seed     uint64
	duration time.Duration // time during which faults are injected
	drain    time.Duration // maximum time until all requests have ended afterwards
	gap      time.Duration // average time between two faults
	only     []string      // names or groups of faults; empty: all
	redis    string        // single, sentinel or cluster
	kyclink  string        // path of the program, built with the tag failpoint
	versions []string      // programs of other versions, see rig.changes; empty: none
	dir      string        // for data and logs
	workers  int
	rate     float64 // calls per second that FaceKi allows
	burst    int
	pace     int       // divisor of the recovery times of workers; 0: no change
	notes    io.Writer // for progress messages
}

// clientSecret must not appear in logs or in Redis.
const clientSecret = "chaos-secret-3f9d2c71"

// rig holds the processes, servers and records of a run.
type rig struct {
	cfg       config
	keys      keyspace.Keys
	generator generator
	journal   *journal
	store     store
	rdb       redis.UniversalClient // bypasses all faults
	upstream  *upstream
	proxy     *proxy // between workers and FaceKi
	fleet     *fleet
	receiver  *receiver
	apiServer *apiServer
	entries   entries
	stall     *stall.Watch
	closers   []func()
}

// open starts everything except workers and the API server.
func open(cfg config) (_ *rig, err error) {
	r := &rig{cfg: cfg, keys: keyspace.Keys{Account: account}, journal: newJournal(), stall: stall.New(),
		generator: generator{seed: cfg.seed, began: time.Now().UTC().Truncate(time.Second)}}
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
	r.receiver = openReceiver()
	r.closers = append(r.closers, r.receiver.close)
	r.generator.callbackURL = r.receiver.url()
	requested := func(id string) (call, bool) { return r.generator.call(id), r.journal.knows(id) }
	r.upstream = openUpstream(simulator.Config{Script: script(cfg.seed), ClientSecret: clientSecret}, requested)
	r.closers = append(r.closers, r.upstream.close)
	if r.proxy, err = newProxy("FaceKi", r.upstream.server.Listener.Addr().String()); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.proxy.close)
	r.fleet = &fleet{program: cfg.kyclink, dir: cfg.dir, inFlight: r.inFlight, settings: append([]string{
		"FACEKI_BASE_URL=http://" + r.proxy.addr(), "FACEKI_CLIENT_ID=chaos", "FACEKI_CLIENT_SECRET=" + clientSecret,
		fmt.Sprintf("FACEKI_RATE=%g/s", cfg.rate), fmt.Sprintf("FACEKI_BURST=%d", cfg.burst), "FACEKI_TIMEOUT=4s",
		"FACEKI_WORKFLOW_ID=" + defaultWorkflow, fmt.Sprintf("KYCLINK_EXPIRY_MINUTES=%d", defaultExpiry),
		"KYCLINK_LOG_FORMAT=json", "KYCLINK_LOG_LEVEL=debug",
	}, slices.Concat(r.store.settings(), r.receiver.settings())...)}
	if cfg.pace > 0 {
		r.fleet.settings = append(r.fleet.settings, fmt.Sprintf("KYCLINK_FAILPOINT_PACE=%d", cfg.pace))
	}
	return r, nil
}

func (r *rig) close() {
	for _, end := range slices.Backward(r.closers) {
		end()
	}
}

// inFlight returns the application ids of all active tasks, and of the calls in flight. Of
// a Redis that is unavailable, it returns none.
func (r *rig) inFlight(ctx context.Context) (ids []string) {
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		active, _ := r.rdb.LRange(ctx, "asynq:{"+r.keys.Queue(lane)+"}:active", 0, -1).Result()
		for _, task := range active {
			if ref, err := request.ParseRef(task); err == nil {
				ids = append(ids, ref.ApplicationID)
			}
		}
	}
	bundles, _ := asynqx.NewQueue(r.rdb, r.keys.Account, request.Bundles).Messages(ctx)
	for _, bundle := range bundles {
		if bundle.State != "active" {
			continue
		}
		turns, _ := linktask.Bundled(bundle.Payload())
		for _, turn := range turns {
			ids = append(ids, turn.ApplicationID)
		}
	}
	calls, _ := r.rdb.ZRange(ctx, r.keys.Calls(), 0, -1).Result()
	for _, call := range calls {
		ids = append(ids, attempt.ApplicationIDOfCall(call))
	}
	return ids
}

// schedule returns what to inject: changes of the version if there are several, else faults.
func (r *rig) schedule() ([]injection, error) {
	if len(r.cfg.versions) > 0 {
		return r.changes(), nil
	}
	kinds, err := r.kinds()
	if err != nil {
		return nil, err
	}
	return plan(r.cfg.seed, kinds, r.cfg.duration, r.cfg.gap), nil
}

// kinds returns the kinds of faults to inject: all, or those selected.
func (r *rig) kinds() ([]kind, error) {
	long := r.cfg.duration >= 3*time.Minute
	all := slices.Concat(r.store.kinds(), r.fleet.kinds(long || len(r.cfg.only) > 0), r.upstreamKinds(long || len(r.cfg.only) > 0),
		r.receiver.kinds(), r.intakeKinds(), r.apiServer.kinds(), r.importKinds())
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
		return nil, fmt.Errorf("unknown faults %v; use some of %v", r.cfg.only, names)
	}
	return chosen, nil
}

// run injects faults while requests arrive, waits until all requests have ended, and checks
// the promises. It returns the violations. An error means that the checks did not run.
func run(ctx context.Context, cfg config, out io.Writer) (violations []string, err error) {
	r, err := open(cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if r.apiServer, err = openAPIServer(ctx, cfg.kyclink, cfg.dir, slices.Concat(r.store.settings(), r.receiver.settings(), []string{
		"KYCLINK_OPS_LISTEN=127.0.0.1:0", "KYCLINK_LOG_FORMAT=json"})); err != nil {
		return nil, err
	}
	stopAPIServer := sync.OnceValue(r.apiServer.close)
	defer stopAPIServer()
	schedule, err := r.schedule()
	if err != nil {
		return nil, err
	}
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
	injected, err := r.injectFaults(ctx, schedule)
	if err != nil {
		return nil, err
	}
	f.injecting, began = time.Since(began), time.Now()
	stuck, err := r.drain(ctx)
	if err != nil {
		return nil, err
	}
	f.draining = time.Since(began)
	violations = slices.Concat(r.fleet.close(), stopAPIServer())
	ended = true
	if f.evidence, err = r.gather(ctx); err != nil {
		return violations, err
	}
	f.evidence.injected, f.state = injected, r.upstream.State()
	violations = slices.Concat(violations, stuck, f.evidence.violations())
	leaks, err := r.leaks(f.evidence)
	f.table(out)
	return append(violations, leaks...), err
}

// injectFaults runs the producers while it injects the faults of the schedule. It returns
// the number of faults of each kind.
func (r *rig) injectFaults(ctx context.Context, schedule []injection) (map[string]int, error) {
	producing, stop := context.WithTimeout(ctx, r.cfg.duration)
	defer stop()
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		r.produce(producing, 0.6*r.cfg.rate)
	}()
	injected, err := follow(ctx, schedule, r.cfg.notes)
	if err != nil {
		stop()
	}
	<-produced
	return injected, errors.Join(err, ctx.Err())
}
