package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/connection"
	"github.com/kyclink/kyclink/internal/embedded"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
	"github.com/kyclink/kyclink/worker"
)

// engine holds what commands share: settings, log, connections and the ledger.
type engine struct {
	cfg config.Config
	log *zap.Logger
	rdb redis.UniversalClient
	// blocking is for reads that wait. It is rdb if Redis is embedded.
	blocking redis.UniversalClient
	stores   *storage.Stores
	// lasting is set if the process goes on until it is stopped, so that it can deliver
	// callbacks also from an embedded Redis.
	lasting bool
	faceki  *faceki.Client
	sender  *callback.Sender     // nil until a worker needs it
	traces  trace.TracerProvider // nil: tracing is off
	closers []func()
	limited *zap.Logger // passes each message now and then; nil in a command that makes no links
	// rest and beside are those of the worker's Config, if the process works for several
	// accounts.
	rest   worker.Rest
	beside func(context.Context)
	// simulator is the address of the simulator in this process; "" if there is none.
	simulator string
}

// openEngine connects to Redis and FaceKi, or starts the embedded Redis and the simulator.
func openEngine(ctx context.Context, cfg config.Config, log *zap.Logger) (_ *engine, err error) {
	e := &engine{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err = e.openProcess(ctx, cfg); err != nil {
		return nil, err
	}
	e.openAccount()
	return e, nil
}

// openProcess connects to Redis, or starts the embedded one, and starts the simulator, for all
// accounts of the process.
func (e *engine) openProcess(ctx context.Context, accounts ...config.Config) (err error) {
	if err = connection.Require(workerFiles(accounts...)); err != nil {
		return err
	}
	if err = e.startTracing(ctx); err != nil {
		return err
	}
	if e.rdb, err = e.openRedis(ctx, len(accounts)); err != nil {
		return err
	}
	e.warnUnencrypted()
	if slices.ContainsFunc(accounts, func(c config.Config) bool { return c.InProcess }) {
		url, stop, err := simulator.New(simulator.Config{}).Start()
		if err != nil {
			return fmt.Errorf("start the simulator: %w", err)
		}
		e.closers = append(e.closers, stop)
		e.simulator = url
	}
	return nil
}

// openAccount opens what belongs to the account.
func (e *engine) openAccount() {
	if e.cfg.InProcess {
		e.cfg.FaceKi.BaseURL = e.simulator
	}
	e.limited = logging.Limited(e.log)
	e.faceki = faceki.New(e.cfg.FaceKi, time.Now, faceki.NewTokens(e.rdb, keyspace.Keys{Account: e.cfg.Account}, e.cfg.FaceKi))
	e.closers = append(e.closers, e.faceki.Close)
	e.stores = storage.New(e.rdb, storage.Config{
		Fleet:  fleet.Config{Account: e.cfg.Account, Simulated: e.cfg.FaceKi.Simulated},
		Ledger: ledger.Config{HoldUncertain: e.cfg.Work.OnUnknown == config.Hold},
	})
}

// openShared opens an engine on the Redis that all processes share, for a command that
// creates no links itself.
func openShared(ctx context.Context) (*engine, error) {
	cfg, err := config.Load(os.Environ(), config.Needs{Redis: true, Terminal: onTerminal()})
	if err != nil {
		return nil, err
	}
	if err := connection.Require(0); err != nil {
		return nil, err
	}
	e := &engine{cfg: cfg, log: newLogger(cfg, os.Stderr)}
	if e.rdb, err = e.openRedis(ctx, 1); err != nil {
		return nil, err
	}
	return e, e.startTracing(ctx)
}

// withShared calls do with an engine of openShared.
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

// warnUnencrypted warns of a connection to Redis without TLS. Only long-running processes
// call it: each short command would repeat the warning.
func (e *engine) warnUnencrypted() {
	if hosts := e.cfg.Redis.Unencrypted(); hosts != "" {
		e.log.Warn("the connection to Redis is not encrypted: its password, links and metadata cross the network in plain text; "+
			"use rediss:// in KYCLINK_REDIS_URL", zap.String("redis", hosts))
	}
}

// openRedis connects to Redis for so many accounts, or starts the embedded one.
func (e *engine) openRedis(ctx context.Context, accounts int) (redis.UniversalClient, error) {
	if !e.cfg.EmbeddedRedis() {
		rdb, err := config.Connect(ctx, e.cfg.Redis, e.log)
		if err != nil {
			return nil, err
		}
		// It stays open until the process ends: asynq's subscriber panics if its client is
		// closed.
		failpoint.Watch(rdb)
		if e.blocking, err = config.Blocking(e.cfg.Redis, accounts); err != nil {
			return nil, err
		}
		failpoint.Watch(e.blocking)
		return rdb, nil
	}
	rdb, stop, err := embedded.Redis()
	if err != nil {
		return nil, err
	}
	e.closers = append(e.closers, stop)
	e.blocking = rdb
	return rdb, nil
}

// producer makes a client that accepts requests up to KYCLINK_MAX_BACKLOG. It calls
// onFull, which may be nil, when it waits for the backlog to shrink.
func (e *engine) producer(onFull func(*tasks.BacklogError)) *tasks.Client {
	cfg := tasks.Config{Account: e.cfg.Account, MaxBacklog: int(e.cfg.MaxBacklog), OnFull: onFull, RedirectHosts: e.cfg.RedirectHosts, TracerProvider: e.traces}
	if e.callbacks() {
		cfg.Callbacks = e.cfg.Callback.Callbacks()
	}
	return tasks.NewClient(e.rdb, cfg)
}

// callbacks reports whether callbacks are possible: they need a Redis that does not end
// with the last request.
func (e *engine) callbacks() bool { return e.lasting || !e.cfg.EmbeddedRedis() }

// close closes what was opened, in reverse.
func (e *engine) close() {
	for i := len(e.closers) - 1; i >= 0; i-- {
		e.closers[i]()
	}
	_ = e.log.Sync()
}
