package main

import (
	"context"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/connection"
	"github.com/kyclink/kyclink/internal/embedded"
	"github.com/kyclink/kyclink/internal/monitor"
	"github.com/kyclink/kyclink/internal/wiring"
	"github.com/kyclink/kyclink/worker"
)

// newWorker returns a worker that has joined the account. journal and metrics may be nil.
func (e *engine) newWorker(ctx context.Context, journal worker.Journal, metrics *monitor.Metrics) (*worker.Worker, error) {
	work := e.cfg.Work
	poster, err := e.poster()
	if err != nil {
		return nil, err
	}
	cfg := worker.Config{
		Account: worker.Account{
			Name: e.cfg.Account, Simulated: e.cfg.FaceKi.Simulated, Credential: e.cfg.FaceKi.Fingerprint(),
			Rate: worker.Rate(work.Rate.Rate), Burst: work.Burst,
		},
		Defaults:  worker.Defaults{ExpiryMinutes: work.ExpiryMinutes, WorkflowID: work.WorkflowID},
		Calls:     worker.Calls{Concurrency: slotsOf(work), Auto: work.Concurrency == config.Auto, Timeout: e.cfg.FaceKi.Timeout},
		Retry:     worker.Retry{MaxAttempts: work.MaxAttempts, HoldUncertain: work.OnUnknown == config.Hold},
		Retention: worker.Retention{Requests: e.keptFor(work.Retention), Results: e.keptFor(work.ResultsAge), ResultsCap: work.ResultsCap},
		Callbacks: worker.Callbacks{Poster: poster, Pauses: paced(worker.CallbackPauses()...)},
		Journal:   journal,
		Rest:      e.rest,
		Beside:    e.beside,
		Blocking:  e.blocking,
		Telemetry: worker.Telemetry{Log: e.log, Limited: e.limited, TracerProvider: e.traces},
	}
	if metrics != nil {
		cfg.Telemetry.Meter, cfg.Callbacks.Attempted = metrics, metrics.Delivery
	}
	w := worker.New(e.rdb, wiring.NewUpstream(e.faceki), cfg)
	return w, w.Join(ctx)
}

// poster returns the sender of callbacks. It is nil if callbacks are off.
func (e *engine) poster() (worker.Poster, error) {
	if !e.callbacks() || !e.cfg.Callback.Callbacks().On() {
		return nil, nil //nolint:nilnil // a worker without callbacks
	}
	if e.sender == nil {
		cfg := e.cfg.Callback
		cfg.Timeout = max(paced(callback.Timeout)[0], minCallbackTimeout)
		sender, err := callback.New(cfg)
		if err != nil {
			return nil, err
		}
		e.sender = sender
		e.closers = append(e.closers, sender.Close)
	}
	return wiring.NewPoster(e.sender), nil
}

// minCallbackTimeout is how long a receiver may take to answer, whatever callbackPace is.
const minCallbackTimeout = 2 * time.Second

// callbackPace divides the pauses between attempts to deliver a callback, and the time
// that a receiver has to answer. Tests set it with the linker.
var callbackPace = "1"

// paced divides times by callbackPace.
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

// keptFor returns a retention, or 0 (for ever) in an embedded Redis, which ends with this
// process.
func (e *engine) keptFor(d time.Duration) time.Duration {
	if e.cfg.EmbeddedRedis() {
		return 0
	}
	return d
}

// workerFiles returns how many files a process that creates links for these accounts opens at
// most.
func workerFiles(accounts ...config.Config) int {
	const lanes = 2
	calls, cfg := 0, accounts[0]
	for _, a := range accounts {
		calls += lanes * slotsOf(a.Work)
	}
	if cfg.EmbeddedRedis() {
		return 2*embedded.Connections + calls
	}
	return cfg.Redis.Connections(len(accounts)) + connection.Ops + calls
}

// slotsOf returns the number of handlers of a lane.
func slotsOf(work config.Work) int {
	if work.Concurrency == config.Auto {
		return autoSlots(work.Rate.Rate)
	}
	return int(work.Concurrency)
}

// autoSlots returns the number of handlers of a lane if the concurrency limit follows the
// rate. asynq needs it in advance: it suffices for calls of four seconds.
func autoSlots(rate admission.Rate) int {
	perSecond := float64(rate.N) / rate.Per.Seconds()
	return min(max(int(4*perSecond)+4, 10), 256)
}
