package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/connection"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/monitor"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
	"github.com/kyclink/kyclink/worker"
)

// engine is what a command works with.
type engine struct {
	cfg config.Config
	log *zap.Logger
	rdb redis.UniversalClient
	// blocking is for reads that wait; the same as rdb if that is embedded.
	blocking redis.UniversalClient
	ledger   *storage.Stores
	faceki   *faceki.Client
	closers  []func() // called in reverse
}

// openEngine connects to Redis and FaceKi, or starts the embedded Redis and the simulator.
func openEngine(ctx context.Context, cfg config.Config, log *zap.Logger) (_ *engine, err error) {
	e := &engine{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err = connection.Require(workerFiles(cfg)); err != nil {
		return nil, err
	}
	if e.rdb, err = e.openRedis(ctx); err != nil {
		return nil, err
	}
	e.warnUnencrypted()
	if cfg.InProcess {
		url, stop, err := simulator.New(simulator.Config{}).Start()
		if err != nil {
			return nil, fmt.Errorf("start the simulator: %w", err)
		}
		e.closers = append(e.closers, stop)
		e.cfg.FaceKi.BaseURL = url
	}
	keys := keyspace.Keys{Account: cfg.Account}
	e.faceki = faceki.New(e.cfg.FaceKi, time.Now, faceki.NewTokens(e.rdb, keys, e.cfg.FaceKi))
	e.closers = append(e.closers, e.faceki.Close)
	e.ledger = storage.New(e.rdb, storage.Config{
		Fleet:  fleet.Config{Account: cfg.Account, Simulated: cfg.FaceKi.Simulated},
		Ledger: ledger.Config{HoldUncertain: cfg.Work.OnUnknown == config.Hold},
	})
	return e, nil
}

// openShared opens an engine on the Redis that all processes share, for a command that
// makes no links itself.
func openShared(ctx context.Context) (*engine, error) {
	cfg, err := config.Load(os.Environ(), config.Needs{Redis: true, Terminal: onTerminal()})
	if err != nil {
		return nil, err
	}
	if err := connection.Require(0); err != nil {
		return nil, err
	}
	e := &engine{cfg: cfg, log: newLogger(cfg, os.Stderr)}
	e.rdb, err = e.openRedis(ctx)
	return e, err
}

// withShared calls do with the Redis that all processes share.
func withShared(cmd *cobra.Command, do func(*engine) error) error {
	e, err := openShared(cmd.Context())
	if err != nil {
		return err
	}
	defer e.close()
	return do(e)
}

// withOperator calls do with an operator of the account.
func withOperator(cmd *cobra.Command, do func(*operator.Operator) error) error {
	return withShared(cmd, func(e *engine) error { return do(e.operator()) })
}

func (e *engine) operator() *operator.Operator { return operator.New(e.rdb, e.cfg.Account) }

// keptFor is how long something is kept: for ever in a Redis that ends with this
// process.
func (e *engine) keptFor(d time.Duration) time.Duration {
	if e.cfg.EmbeddedRedis() {
		return 0
	}
	return d
}

// warnUnencrypted warns in long-running processes; short commands would repeat it.
func (e *engine) warnUnencrypted() {
	if hosts := e.cfg.Redis.Unencrypted(); hosts != "" {
		e.log.Warn("the connection to Redis is not encrypted: its password, links and metadata cross the network in plain text; "+
			"use rediss:// in KYCLINK_REDIS_URL", zap.String("redis", hosts))
	}
}

func (e *engine) openRedis(ctx context.Context) (redis.UniversalClient, error) {
	if !e.cfg.EmbeddedRedis() {
		rdb, err := config.Connect(ctx, e.cfg.Redis, e.log)
		if err != nil {
			return nil, err
		}
		// It is left open until the process ends: asynq's subscriber panics if it is
		// closed under it.
		failpoint.Watch(rdb)
		if e.blocking, err = config.Blocking(e.cfg.Redis); err != nil {
			return nil, err
		}
		failpoint.Watch(e.blocking)
		return rdb, nil
	}
	rdb, stop, err := embeddedRedis()
	if err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	e.closers = append(e.closers, stop)
	e.blocking = rdb
	return rdb, nil
}

// newWorker makes a worker and joins the account. journal and metrics may be nil.
func (e *engine) newWorker(ctx context.Context, journal worker.Journal, metrics *monitor.Server) (*worker.Worker, error) {
	work := e.cfg.Work
	poster, err := e.poster()
	if err != nil {
		return nil, err
	}
	cfg := worker.Config{
		Account: worker.Account{
			Name: e.cfg.Account, Simulated: e.cfg.FaceKi.Simulated, Credential: e.cfg.FaceKi.Fingerprint(),
			Rate: work.Rate.Rate, Burst: work.Burst,
		},
		Defaults:  worker.Defaults{ExpiryMinutes: work.ExpiryMinutes, WorkflowID: work.WorkflowID},
		Calls:     worker.Calls{Concurrency: slotsOf(work), Auto: work.Concurrency == config.Auto, Timeout: e.cfg.FaceKi.Timeout},
		Retry:     worker.Retry{MaxAttempts: work.MaxAttempts, HoldUncertain: work.OnUnknown == config.Hold},
		Retention: worker.Retention{Requests: e.keptFor(work.Retention), Results: e.keptFor(work.ResultsAge), ResultsCap: work.ResultsCap},
		Callbacks: worker.Callbacks{Poster: poster, Pauses: paced(worker.CallbackPauses()...), Redis: e.blocking},
		Journal:   journal,
		Telemetry: worker.Telemetry{Log: e.log, Limited: logging.Limited(e.log)},
	}
	if metrics != nil {
		cfg.Telemetry.Meter, cfg.Callbacks.Attempted = metrics, metrics.Delivery
	}
	w := worker.New(e.rdb, e.faceki, cfg)
	return w, w.Join(ctx)
}

// poster sends callbacks; nil if they are off.
func (e *engine) poster() (worker.Poster, error) {
	if e.cfg.EmbeddedRedis() || !e.cfg.Callback.Callbacks().On() {
		return nil, nil //nolint:nilnil // a worker without callbacks
	}
	cfg := e.cfg.Callback
	cfg.Timeout = max(paced(callback.Timeout)[0], leastTimeout)
	sender, err := callback.New(cfg)
	if err != nil {
		return nil, err
	}
	e.closers = append(e.closers, sender.Close)
	return sender, nil
}

// leastTimeout is how long a receiver may take to answer, whatever callbackPace is.
const leastTimeout = 2 * time.Second

// callbackPace is set by the linker in tests. It divides the pauses between attempts to
// deliver, and the time that a receiver has to answer.
var callbackPace = "1"

func paced(times ...time.Duration) []time.Duration {
	pace, err := strconv.Atoi(callbackPace)
	if err != nil || pace < 1 {
		return times
	}
	for i := range times {
		times[i] /= time.Duration(pace)
	}
	return times
}

// workerFiles is how many files a process that makes links opens at most.
func workerFiles(cfg config.Config) int {
	const lanes = 2
	calls := lanes * slotsOf(cfg.Work)
	if cfg.EmbeddedRedis() {
		return 2*embeddedPool + calls // both ends are in this process
	}
	return cfg.Redis.Connections() + connection.Ops + calls
}

// slotsOf is how many handlers a lane has.
func slotsOf(work config.Work) int {
	if work.Concurrency == config.Auto {
		return autoSlots(work.Rate.Rate)
	}
	return int(work.Concurrency)
}

// autoSlots is how many handlers a lane has if the concurrency limit follows the rate.
// asynq needs the number beforehand, so that it is enough for calls of four seconds.
func autoSlots(rate admission.Rate) int {
	perSecond := float64(rate.N) / rate.Per.Seconds()
	return min(max(int(4*perSecond)+4, 10), 256)
}

// producer makes a client that accepts requests up to KYCLINK_MAX_BACKLOG. It calls
// onFull, which may be nil, when it waits for the backlog to shrink.
func (e *engine) producer(onFull func(*tasks.BacklogError)) *tasks.Client {
	cfg := tasks.Config{Account: e.cfg.Account, MaxBacklog: int(e.cfg.MaxBacklog), OnFull: onFull, RedirectHosts: e.cfg.RedirectHosts}
	if !e.cfg.EmbeddedRedis() { // whose callbacks would end with the process
		cfg.Callbacks = e.cfg.Callback.Callbacks()
	}
	return tasks.NewClient(e.rdb, cfg)
}

func (e *engine) close() {
	for i := len(e.closers) - 1; i >= 0; i-- {
		e.closers[i]()
	}
	_ = e.log.Sync()
}

// embeddedPool is how many connections the client of the embedded Redis has.
const embeddedPool = 100

// embeddedRedis starts a Redis in this process, on a loopback port, with a random
// password.
func embeddedRedis() (redis.UniversalClient, func(), error) {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: password, DisableIdentity: true, PoolSize: embeddedPool})

	// miniredis expires no key until its clock is advanced.
	stop := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				server.FastForward(time.Second)
			}
		}
	})
	return rdb, func() {
		close(stop)
		ticking.Wait()
		_ = rdb.Close()
		server.Close()
	}, nil
}
