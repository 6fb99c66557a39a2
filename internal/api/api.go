// Package api is the HTTP API: signups and batches in, links and how things stand
// out, as openapi.yaml describes it. Every answer that is no success is a problem
// document (RFC 9457). It neither makes links nor decides anything about them.
package api

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

//go:embed openapi.yaml
var document []byte

// Config is what an API works with. All of it is needed but what has a default.
type Config struct {
	// Redis is used for looks at the account, and Blocking, which may be the same, for
	// reads that wait for something to come; they are not closed.
	Redis, Blocking redis.UniversalClient

	Ledger *ledger.Ledger
	// Client accepts requests one at a time.
	Client *tasks.Client
	// Importer makes a client that accepts batches, and has to heed contexts. onFull is
	// told where it waits for room in a lane.
	Importer func(onFull func(*tasks.BacklogError)) *tasks.Client
	// Dispatch enqueues the task of a turn that a retry began.
	Dispatch func(ctx context.Context, lane request.Lane, ref request.Ref) error
	Keys     Keys
	Audit    Audit
	// MaxBody is of a batch, in bytes.
	MaxBody int64
	// PerSecond is how many requests a key may make; 1000 where 0, of which twice
	// as many may come at once.
	PerSecond float64
	Log       *zap.Logger
	// Meter is told of every request when it is over; nil: nobody is.
	Meter Meter
}

// Meter counts requests, from many goroutines at a time.
type Meter interface {
	// Request is one that was answered with this status, 0 where it was broken off
	// before. route is a path of openapi.yaml, "" where it is of none, or was refused
	// before that was looked at.
	Request(method, route string, status int, took time.Duration)
	// Refused is one that had no valid API key; reason is one of [KeyProblems].
	Refused(reason string)
}

// API answers HTTP requests. It is safe for concurrent use. [API.Run] has to run
// beside it.
type API struct {
	Config
	mux     *http.ServeMux
	account *admission.Account
	stream  *stream
	// accepting holds as many as accept a request at this moment.
	accepting chan struct{}
	limits    *limits
	refused   *refused
	uploads   uploads
	sent      *transfers
	exported  *transfers
	snapshots snapshots
	draining  chan struct{}

	roomWithin, within, transferWithin time.Duration
}

// New makes an API.
func New(cfg Config) *API {
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 1000
	}
	keys := cfg.Ledger.Keys()
	a := &API{
		Config: cfg, mux: http.NewServeMux(),
		account:   admission.NewAccount(cfg.Redis, keys.Account),
		stream:    newStream(cmp.Or(cfg.Blocking, cfg.Redis), keys.Results(), cfg.Log),
		limits:    newLimits(cfg.PerSecond),
		refused:   newRefused(refusedPerSecond),
		uploads:   uploads{names: map[string]bool{}},
		sent:      newTransfers("uploads"),
		exported:  newTransfers("exports"),
		accepting: make(chan struct{}, accepters), draining: make(chan struct{}),
		roomWithin: roomWithin, within: atOnce, transferWithin: transferWithin,
	}
	a.route()
	return a
}

// Run reads the results stream until ctx ends: it wakes whoever waits for a link.
func (a *API) Run(ctx context.Context) {
	var beating sync.WaitGroup
	beating.Go(func() { a.beat(ctx) })
	defer beating.Wait()
	a.stream.run(ctx)
}

const (
	beatPause  = time.Second
	beatWithin = 3 * time.Second
)

// beat writes heartbeats, which show whether Redis takes writes.
func (a *API) beat(ctx context.Context) {
	for failing := false; ctx.Err() == nil; {
		once, cancel := context.WithTimeout(ctx, beatWithin)
		err := a.Ledger.Touch(once)
		cancel()
		_, emptied := errors.AsType[*fleet.EmptiedError](err)
		switch {
		case ctx.Err() != nil:
			return
		case emptied:
			a.Log.Error("Redis was emptied", zap.Error(err))
		case err != nil && !failing:
			a.Log.Error("Redis takes no writes", zap.Error(err))
		case err == nil && failing:
			a.Log.Info("Redis takes writes again")
		}
		failing = err != nil && !emptied
		select {
		case <-ctx.Done():
		case <-time.After(beatPause):
		}
	}
}

// Drain answers everybody who waits for a link, with what is known by now. It is
// called once.
func (a *API) Drain() { close(a.draining) }

// documentPath can be read without a key.
const documentPath = "/v1/openapi.yaml"

// anyScope is of routes that need no key.
const anyScope Scope = ""

// routes are all that there is, but /healthz.
func (a *API) routes() []route {
	return []route{
		{"POST", "/v1/links", Enqueue, a.postLink},
		{"GET", "/v1/links/{application_id}", Read, a.getLink},
		{"DELETE", "/v1/links/{application_id}", Operate, a.deleteLink},
		{"POST", "/v1/batches", Enqueue, a.postBatch},
		{"GET", "/v1/batches", Read, a.listBatches},
		{"GET", "/v1/batches/{id}", Read, a.getBatch},
		{"GET", "/v1/batches/{id}/export", Read, a.exportBatch},
		{"POST", "/v1/batches/{id}/pause", Operate, a.steerBatch(batch.Pause)},
		{"POST", "/v1/batches/{id}/resume", Operate, a.steerBatch(batch.Resume)},
		{"POST", "/v1/batches/{id}/cancel", Operate, a.cancelBatch},
		{"POST", "/v1/batches/{id}/retry", Operate, a.retryBatch},
		{"GET", "/v1/account", Read, a.getAccount},
		{"POST", "/v1/account/pause", Operate, a.pauseAccount},
		{"POST", "/v1/account/resume", Operate, a.resumeAccount},
		{"GET", documentPath, anyScope, serveDocument},
	}
}

type route struct {
	method, path string
	scope        Scope
	handle       func(*call) error
}

// route registers the routes, and for each path what says which methods it has.
func (a *API) route() {
	allowed := map[string][]string{}
	for _, r := range a.routes() {
		a.mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, _ *http.Request) {
			c := w.(*call)
			if r.scope != anyScope && !c.key.Allows(r.scope) {
				c.fail(forbidden(c.key, r.scope))
				return
			}
			c.fail(r.handle(c))
		})
		allowed[r.path] = append(allowed[r.path], r.method)
		if r.method == "GET" {
			allowed[r.path] = append(allowed[r.path], "HEAD")
		}
	}
	for path, methods := range allowed {
		slices.Sort(methods)
		allow := strings.Join(methods, ", ")
		a.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.(*call).fail(notAllowed(allow)) })
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.(*call).fail(noSuchPath()) })
}

func serveDocument(c *call) error {
	if err := c.onlyQuery(); err != nil {
		return err
	}
	c.Header().Set("Content-Type", "application/yaml")
	_, _ = c.Write(document) // whoever does not take it has gone
	return nil
}

// health says whether requests can be answered, to anybody.
func (a *API) health(c *call) error {
	if m := c.r.Method; m != http.MethodGet && m != http.MethodHead {
		return notAllowed("GET, HEAD")
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), time.Second)
	defer cancel()
	err := a.Ledger.Written()
	if errors.Is(err, fleet.ErrUnwritten) { // the first of the heartbeats is on its way
		err = a.Ledger.Touch(ctx)
	}
	if err != nil {
		return unavailable(err)
	}
	return c.json(http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}
