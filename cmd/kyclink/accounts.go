package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/monitor"
	"github.com/kyclink/kyclink/worker"
)

// retryAccount is the pause before an account is tried again that could not be joined, or
// whose worker has failed. Its log line repeats as often.
const retryAccount = 15 * time.Second

// serveAccounts runs a worker for each account until ctx is done. l, which may be nil, is the
// listener for health and metrics.
func serveAccounts(ctx context.Context, accounts []config.Config, log *zap.Logger, l net.Listener) error {
	warnOfFiles(accounts, log)
	process := &engine{cfg: accounts[0], log: log}
	process.cfg.Account = "" // what it opens is for all accounts
	defer process.close()
	if err := process.openProcess(ctx, accounts...); err != nil {
		return err
	}
	announce(os.Stderr, accounts...)
	log.Info("serving several accounts", zap.Int("accounts", len(accounts)))
	watch := account.NewWatch(process.rdb, logging.Limited(log))
	all := make([]*servedAccount, len(accounts))
	configs := make([]monitor.Config, len(all))
	for i, cfg := range accounts {
		all[i] = process.account(cfg, watch)
		process.closers = append(process.closers, all[i].close)
		configs[i] = all[i].opsConfig(all[i], all[i].limited)
		configs[i].Ready = all[i].ready
	}
	o := monitor.NewSeveral(configs)
	defer process.serveOps(ctx, l, o, func() error { return allReady(all) })()
	var running sync.WaitGroup
	running.Go(func() { watch.Run(ctx) })
	for _, a := range all {
		running.Go(func() { a.serve(ctx, o.Of(a.cfg.Account)) })
	}
	running.Wait()
	return nil
}

// mostNamed is how many files, or simulators, a message names.
const mostNamed = 10

// warnOfFiles warns of files that are valid, but probably not meant so.
func warnOfFiles(accounts []config.Config, log *zap.Logger) {
	for _, cfg := range accounts {
		if cfg.Exposed {
			log.Warn("every user of this host can read the secrets in the file of an account; run chmod o-r", zap.String("file", cfg.File))
		}
	}
	for _, group := range sameClient(accounts) {
		var files []string
		for _, cfg := range group[:min(len(group), mostNamed)] {
			files = append(files, cfg.File)
		}
		log.Warn("accounts have the same FaceKi client, and each may use up its limit: give each a FACEKI_CLIENT_ID of its own, or divide the limit among them with FACEKI_RATE and FACEKI_BURST",
			zap.Int("accounts", len(group)), zap.Strings("files", files))
	}
}

// sameClient returns the groups of accounts that share their FaceKi client.
func sameClient(accounts []config.Config) (groups [][]config.Config) {
	for _, cfg := range accounts {
		i := slices.IndexFunc(groups, func(g []config.Config) bool { return cfg.SharesClient(g[0]) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], cfg)
	}
	return slices.DeleteFunc(groups, func(g []config.Config) bool { return len(g) == 1 })
}

// servedAccount is one of the accounts of a process.
type servedAccount struct {
	*engine
	*account.Reader
	worker atomic.Pointer[worker.Worker] // nil if it has not joined, or has failed
}

// account opens one of the accounts that share the connections and the simulator of e.
func (e *engine) account(cfg config.Config, watch *account.Watch) *servedAccount {
	one := &engine{cfg: cfg, log: e.log.With(zap.String("account", cfg.Account)), rdb: e.rdb, blocking: e.blocking, simulator: e.simulator}
	if e.traces != nil {
		one.traces = accountTraces{e.traces, cfg.Account}
	}
	one.openAccount()
	group := ""
	if one.callbacks() && cfg.Callback.Callbacks().On() {
		group = delivery.Group
	}
	one.rest = watch.Rest(cfg.Account, group)
	return &servedAccount{engine: one, Reader: one.stores.Account}
}

// serve works for the account until ctx is done. If that fails it tries again, and says so:
// the other accounts must not notice.
func (a *servedAccount) serve(ctx context.Context, metrics *monitor.Metrics) {
	a.beside = func(ctx context.Context) { a.readIntake(ctx, metrics.Entries) }
	for {
		err := a.work(ctx, metrics)
		if ctx.Err() != nil {
			if err != nil {
				a.log.Error("the worker of the account failed while it stopped", zap.Error(err))
			}
			return
		}
		a.log.Error("account is not served; trying again", zap.Error(explained(err)), zap.Duration("pause", retryAccount))
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAccount):
		}
	}
}

// explained adds to an error of Redis what it means, and what to do.
func explained(err error) error {
	if more := config.Explain(err); more != "" {
		return fmt.Errorf("%w; %s", err, more)
	}
	return err
}

func (a *servedAccount) work(ctx context.Context, metrics *monitor.Metrics) error {
	w, err := a.newWorker(ctx, nil, metrics)
	if err != nil {
		return err
	}
	a.worker.Store(w)
	defer a.worker.Store(nil)
	return w.Run(ctx)
}

// ready returns why this process does not work for the account; nil if it does.
func (a *servedAccount) ready() error {
	w := a.worker.Load()
	if w == nil {
		return errors.New("it could not be joined yet, or its worker has failed; see the log")
	}
	if err := w.Ready(); err != nil {
		return err
	}
	return w.Heartbeat()
}

// WriteError returns the error of the last heartbeat for the account, or nil if Redis accepted
// it or there was none.
func (a *servedAccount) WriteError() error {
	if w := a.worker.Load(); w != nil {
		return w.Heartbeat()
	}
	return nil
}

// allReady returns for which accounts this process does not work, and why; nil if it works
// for all.
func allReady(all []*servedAccount) error {
	var failed account.Failures
	for _, a := range all {
		if err := a.ready(); err != nil {
			failed = append(failed, account.Failure{Account: a.cfg.Account, Err: err})
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return failed
}
