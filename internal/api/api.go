// Package api is the HTTP API that openapi.yaml describes: it accepts requests and
// batches, and returns links and the state of the account. Every error response is a
// problem document (RFC 9457). The package does not create links; workers do.
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
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/internal/transfer"
	"github.com/kyclink/kyclink/tasks"
)

//go:embed openapi.yaml
var document []byte

// Config configures an [API]. Fields without a documented default are required.
type Config struct {
	// Redis is for short commands. Blocking is for blocking reads; if nil, Redis is used.
	// The API closes neither.
	Redis, Blocking redis.UniversalClient

	Stores *storage.Stores
	// Client accepts single requests.
	Client *tasks.Client
	// Importer returns a client that accepts batches. It must respect contexts. It calls
	// onFull while it waits because a lane's backlog is full.
	Importer func(onFull func(*tasks.BacklogError)) *tasks.Client
	Keys     Keys
	Audit    Audit
	// MaxBody is the maximum size of a batch in bytes.
	MaxBody int64
	// PerSecond is the rate limit of a key in requests per second, with a burst of twice
	// as many. The default is 1000.
	PerSecond float64
	Log       *zap.Logger
	// Meter may be nil.
	Meter Meter
	// TracerProvider receives a span for each request with a valid key, which continues the
	// trace of the client; nil: none is made.
	TracerProvider trace.TracerProvider
	// Console handles the requests for paths that are not the API's, and authenticates
	// them; nil if there is no console. For the log, it passes the key to the method SignedIn
	// of the [http.ResponseWriter].
	Console http.Handler
}

// Keys verifies API keys. It must be safe for concurrent use.
type Keys interface {
	// Verify returns the key that was presented, or [apikey.ErrUnknown]. Other errors
	// mean that the key could not be read.
	Verify(ctx context.Context, presented string) (apikey.Key, error)
}

// Audit is the audit trail. It must be safe for concurrent use.
type Audit interface {
	// Append returns when the change has been stored.
	Append(ctx context.Context, c audit.Change) error
}

// Meter records metrics. It must be safe for concurrent use.
type Meter interface {
	// Request records a finished request. status is 0 if it was aborted before a
	// response. route is a path of openapi.yaml, or "" if the request matches none or was
	// refused before it was routed.
	Request(method, route string, status int, took time.Duration)
	// Refused records a request without a valid API key; reason is an [apikey.Reason].
	Refused(reason string)
}

// API handles HTTP requests. It is safe for concurrent use. [API.Run] must run while it
// does.
type API struct {
	Config
	mux      *http.ServeMux
	admitted http.Handler // of requests that [API.admit] has admitted
	account  *admission.Account
	actions  *action.Store
	runner   *action.Runner
	operator *operator.Operator
	stream   *stream
	// accepting is a semaphore with one element for each request that is being accepted.
	accepting  chan struct{}
	limits     *limits
	failedAuth *failedAuth
	uploads    transfer.Names
	imports    *transfer.Limits
	exports    *transfer.Limits
	snapshots  *diagnosis.Latest
	draining   chan struct{}

	backlogTimeout, timeout, transferTimeout, bodyTimeout, diagnosisTimeout time.Duration
}

// New returns an API.
func New(cfg Config) *API {
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 1000
	}
	keys := cfg.Stores.Keys
	a := &API{
		Config: cfg, mux: http.NewServeMux(),
		account:    admission.NewAccount(cfg.Redis, keys.Account),
		actions:    action.NewStore(cfg.Redis, keys.Account),
		runner:     action.NewRunner(action.RunnerConfig{Redis: cfg.Redis, Account: keys.Account, Log: cfg.Log, Limited: cfg.Log}),
		operator:   operator.New(cfg.Redis, keys.Account),
		stream:     newStream(cmp.Or(cfg.Blocking, cfg.Redis), keys.Results(), cfg.Log),
		limits:     newLimits(cfg.PerSecond),
		snapshots:  diagnosis.NewLatest(diagnosis.NewReader(cfg.Redis, cfg.Stores)),
		failedAuth: newFailedAuth(failedPerSecond),
		imports:    transfer.NewLimits("uploads"),
		exports:    transfer.NewLimits("exports"),
		accepting:  make(chan struct{}, maxAccepting), draining: make(chan struct{}),
		backlogTimeout: backlogTimeout, timeout: shortTimeout, transferTimeout: transfer.Timeout, bodyTimeout: bodyTimeout, diagnosisTimeout: time.Second,
	}
	a.registerRoutes()
	a.admitted = a.traced()
	return a
}

// Run reads the results stream until ctx ends, to wake requests that wait for a link.
func (a *API) Run(ctx context.Context) {
	var heartbeats sync.WaitGroup
	heartbeats.Go(func() { a.heartbeat(ctx) })
	defer heartbeats.Wait()
	a.stream.run(ctx)
}

const (
	heartbeatPause   = time.Second
	heartbeatTimeout = 3 * time.Second
)

// heartbeat writes a heartbeat every second, and logs when Redis stops or resumes accepting
// writes.
func (a *API) heartbeat(ctx context.Context) {
	for failing := false; ctx.Err() == nil; {
		once, cancel := context.WithTimeout(ctx, heartbeatTimeout)
		err := a.Stores.Fleet.ClientHeartbeat(once)
		cancel()
		_, emptied := errors.AsType[*fleet.EmptiedError](err)
		switch {
		case ctx.Err() != nil:
			return
		case emptied:
			a.Log.Error("Redis was emptied", zap.Error(err))
		case err != nil && !failing:
			a.Log.Error("Redis does not accept writes", zap.Error(err))
		case err == nil && failing:
			a.Log.Info("Redis accepts writes again")
		}
		failing = err != nil && !emptied
		select {
		case <-ctx.Done():
		case <-time.After(heartbeatPause):
		}
	}
}

// Drain ends all waits for a link: the responses have the current state. Call it once.
func (a *API) Drain() { close(a.draining) }

// documentPath is the path of openapi.yaml, which needs no key.
const documentPath = "/v1/openapi.yaml"

// anyScope is the scope of routes that need no key.
const anyScope apikey.Scope = ""

// routes returns all routes except /healthz.
func (a *API) routes() []route {
	return []route{
		{"POST", "/v1/links", apikey.Enqueue, a.postLink},
		{"GET", "/v1/links", apikey.Read, a.listLinks},
		{"GET", "/v1/links/{application_id}", apikey.Read, a.getLink},
		{"DELETE", "/v1/links/{application_id}", apikey.Operate, a.deleteLink},
		{"GET", "/v1/links/{application_id}/history", apikey.Read, a.getHistory},
		{"GET", "/v1/links/{application_id}/deliveries", apikey.Read, a.listLinkDeliveries},
		{"POST", "/v1/links/{application_id}/retry", apikey.Operate, a.retryLink},
		{"POST", "/v1/links/{application_id}/drop", apikey.Operate, a.dropLink},
		{"POST", "/v1/links/{application_id}/replay", apikey.Operate, a.replayLink},
		{"GET", "/v1/deliveries", apikey.Read, a.listDeliveries},
		{"POST", "/v1/deliveries/{event_id}/retry", apikey.Operate, a.retryDelivery},
		{"POST", "/v1/deliveries/{event_id}/drop", apikey.Operate, a.dropDelivery},
		{"POST", "/v1/batches", apikey.Enqueue, a.postBatch},
		{"GET", "/v1/batches", apikey.Read, a.listBatches},
		{"GET", "/v1/batches/{id}", apikey.Read, a.getBatch},
		{"GET", "/v1/batches/{id}/export", apikey.Read, a.exportBatch},
		{"POST", "/v1/batches/{id}/pause", apikey.Operate, a.controlBatch(batch.Pause)},
		{"POST", "/v1/batches/{id}/resume", apikey.Operate, a.controlBatch(batch.Resume)},
		{"POST", "/v1/batches/{id}/cancel", apikey.Operate, a.cancelBatch},
		{"POST", "/v1/batches/{id}/retry", apikey.Operate, a.retryBatch},
		{"POST", "/v1/actions", apikey.Operate, a.postAction},
		{"GET", "/v1/actions", apikey.Read, a.listActions},
		{"GET", "/v1/actions/{id}", apikey.Read, a.getAction},
		{"POST", "/v1/actions/{id}/abort", apikey.Operate, a.abortAction},
		{"GET", "/v1/status", apikey.Read, a.getStatus},
		{"GET", "/v1/account", apikey.Read, a.getAccount},
		{"POST", "/v1/account/pause", apikey.Operate, a.pauseAccount},
		{"POST", "/v1/account/resume", apikey.Operate, a.resumeAccount},
		{"PUT", "/v1/account/rate", apikey.Operate, a.setRate},
		{"DELETE", "/v1/account/rate", apikey.Operate, a.resetRate},
		{"GET", "/v1/account/history", apikey.Read, a.getGateHistory},
		{"GET", "/v1/account/activity", apikey.Read, a.getActivity},
		{"GET", "/v1/workers", apikey.Read, a.listWorkers},
		{"GET", "/v1/results/groups", apikey.Read, a.listGroups},
		{"GET", "/v1/audit", apikey.Read, a.listChanges},
		{"GET", documentPath, anyScope, serveDocument},
	}
}

type route struct {
	method, path string
	scope        apikey.Scope
	handle       func(*call) error
}

// registerRoutes registers the routes, and for each path a handler that lists its
// methods.
func (a *API) registerRoutes() {
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

// callKey is the key of the call in the context of its request.
type callKey struct{}

func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

// route handles an admitted request.
func (a *API) route(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	c.ResponseWriter, c.r = w, r
	defer c.answerPanic()
	if r.URL.Path == "/healthz" {
		r.Pattern = "/healthz"
		c.fail(a.health(c))
		return
	}
	if a.isConsole(r) {
		a.Console.ServeHTTP(c, r)
		return
	}
	a.mux.ServeHTTP(c, r)
}

func serveDocument(c *call) error {
	if err := c.onlyQuery(); err != nil {
		return err
	}
	c.Header().Set("Content-Type", "application/yaml")
	_, _ = c.Write(document) // it fails only if the client has disconnected
	return nil
}

// health reports whether Redis accepts writes. It needs no key.
func (a *API) health(c *call) error {
	if m := c.r.Method; m != http.MethodGet && m != http.MethodHead {
		return notAllowed("GET, HEAD")
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), time.Second)
	defer cancel()
	err := a.Stores.Fleet.WriteError()
	if errors.Is(err, fleet.ErrNoHeartbeat) { // heartbeat has not written the first one yet
		err = a.Stores.Fleet.ClientHeartbeat(ctx)
	}
	if err != nil {
		return unavailable(err)
	}
	return c.json(http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}
