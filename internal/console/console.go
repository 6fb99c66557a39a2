// Package console is the operator console: pages that show whether people get their links,
// and let operators act. They are rendered on the server and work without JavaScript; with
// it, they are live.
//
// A browser signs in with an API key, whose scopes decide what it may see and do. Every
// change is in the audit trail under the name of that key. A page shows a link only when an
// operator asks for it.
package console

import (
	"context"
	"html/template"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/peerlimit"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/internal/transfer"
	"github.com/kyclink/kyclink/tasks"
)

// Config configures a [Console]. Fields without a documented zero value are required.
type Config struct {
	// Redis is not closed.
	Redis  redis.UniversalClient
	Stores *storage.Stores
	Keys   *apikey.Keyring
	Audit  *audit.Trail
	// Importer returns a client that accepts batches. It must respect contexts. It calls
	// onFull, which may be nil, while it waits because a lane's backlog is full.
	Importer func(onFull func(*tasks.BacklogError)) *tasks.Client
	// MaxBody is the maximum size of a file that is imported, in bytes.
	MaxBody int64
	// ExpiryMinutes is for how long links are valid for which nothing else is asked.
	ExpiryMinutes int
	// Refused is called for each sign-in without a valid key, with an [apikey.Reason].
	Refused func(reason string)
	Log     *zap.Logger
	// Stopping is closed when live pages must end, because the server stops.
	Stopping <-chan struct{}
	// Ping sends a test event to a URL. Its error says that no request may have this URL as
	// its callback_url. It is nil if callbacks are off.
	Ping func(ctx context.Context, to string) (delivery.Reply, error)
}

// Console handles HTTP requests. It is safe for concurrent use.
type Console struct {
	Config
	handler   http.Handler
	templates map[string]*template.Template
	assets    assets
	sessions  *sessions
	failed    *peerlimit.Limits
	operator  *operator.Operator
	actions   *action.Store
	account   *admission.Account
	reader    *diagnosis.Reader
	snapshots *diagnosis.Latest
	tallies   *tallies
	now       *live
	hour      *hour
	uploads   *transfer.Limits
	exports   *transfer.Limits
	importing transfer.Names

	timeout, backlogTimeout time.Duration
}

// Limits of an address for sign-ins without a valid key.
const (
	failedPerSecond = 0.2
	failedBurst     = 10
)

// maxUploads is how many uploads a process handles at a time. Each is stored in a temporary
// file.
const maxUploads = 8

// New returns a console.
func New(cfg Config) *Console {
	account := cfg.Stores.Keys.Account
	c := &Console{
		Config:   cfg,
		assets:   loadAssets(),
		sessions: newSessions(cfg.Redis, cfg.Stores.Keys),
		failed:   peerlimit.New(failedPerSecond, failedBurst),
		operator: operator.New(cfg.Redis, account),
		actions:  action.NewStore(cfg.Redis, account),
		account:  admission.NewAccount(cfg.Redis, account),
		reader:   diagnosis.NewReader(cfg.Redis, cfg.Stores),
		tallies:  newTallies(cfg.Stopping),
		uploads:  transfer.NewLimits("uploads"),
		exports:  transfer.NewLimits("exports"),

		timeout: pageTimeout, backlogTimeout: backlogTimeout,
	}
	c.uploads.Total = maxUploads
	c.snapshots = diagnosis.NewLatest(c.reader)
	c.templates = parseTemplates(c.assets)
	c.now = newLive(c.renderNow)
	c.hour = &hour{read: cfg.Stores.Activity.Hour, render: c.renderChart}
	mux := http.NewServeMux()
	c.registerRoutes(mux)
	c.handler = mux
	return c
}

// policy is the Content-Security-Policy of every response.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP implements [http.Handler].
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would hide the Origin of forms
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		v := &visit{w: w, r: r}
		c.fail(v, &pageError{http.StatusForbidden, "Request refused", "This change was requested by a page of another site. Nothing was changed."})
		return
	}
	c.handler.ServeHTTP(w, r)
}

// pageTimeout limits how long a page may take.
const pageTimeout = 5 * time.Second

type handler func(ctx context.Context, v *visit) error

// registerRoutes registers all routes. No scope includes another, but a key without the
// scope read cannot sign in.
func (c *Console) registerRoutes(mux *http.ServeMux) {
	for pattern, handle := range map[string]handler{
		"GET /sign-in":       c.signInPage,
		"POST /sign-in":      c.signIn,
		"GET /static/{name}": c.static,
		"/":                  c.notFound,
	} {
		mux.HandleFunc(pattern, c.open(handle))
	}
	for pattern, handle := range map[string]handler{
		"GET /{$}":              c.nowPage,
		"GET /live":             c.nowLive,
		"POST /sign-out":        c.signOut,
		"POST /request/reveal":  c.revealLink,
		"GET /requests":         c.requestsPage,
		"GET /request":          c.requestPage,
		"GET /batches":          c.batchesPage,
		"GET /batch":            c.batchPage,
		"GET /batch/progress":   c.batchProgress,
		"GET /failed":           c.failedPage,
		"GET /failed/groups":    c.failedGroups,
		"GET /held":             c.heldPage,
		"GET /held/groups":      c.heldGroups,
		"GET /callbacks":        c.callbacksPage,
		"GET /callbacks/groups": c.callbackGroups,
		"GET /actions":          c.actionsPage,
		"GET /action":           c.actionPage,
		"GET /action/progress":  c.actionProgress,
		"GET /account":          c.accountPage,
		"GET /keys":             c.keysPage,
		"GET /audit":            c.auditPage,
	} {
		mux.HandleFunc(pattern, c.signedIn(apikey.Read, handle))
	}
	for pattern, handle := range map[string]handler{
		"POST /request/retry":  c.retryRequest,
		"POST /request/drop":   c.dropRequest,
		"POST /request/cancel": c.cancelRequest,
		"POST /request/forget": c.forgetRequest,
		"POST /batch/pause":    c.pauseBatch,
		"POST /batch/resume":   c.resumeBatch,
		"POST /batch/cancel":   c.cancelBatch,
		"POST /callbacks/test": c.testCallback,
		"POST /actions/plan":   c.planAction,
		"POST /actions/start":  c.startAction,
		"POST /action/abort":   c.abortAction,
		"POST /account/pause":  c.pauseAccount,
		"POST /account/resume": c.resumeAccount,
		"POST /account/rate":   c.setRate,
		"POST /keys/create":    c.createKey,
		"POST /keys/revoke":    c.revokeKey,
	} {
		mux.HandleFunc(pattern, c.signedIn(apikey.Operate, handle))
	}
	mux.HandleFunc("GET /batches/new", c.signedIn(apikey.Enqueue, c.uploadPage))
	mux.HandleFunc("POST /batches/check", c.transferring(apikey.Enqueue, c.uploads, c.checkUpload))
	mux.HandleFunc("POST /batches/import", c.transferring(apikey.Enqueue, c.uploads, c.importUpload))
	mux.HandleFunc("POST /batches/rejects", c.transferring(apikey.Enqueue, c.uploads, c.downloadRejects))
	mux.HandleFunc("POST /batch/export", c.transferring(apikey.Read, c.exports, c.exportBatch))
}
