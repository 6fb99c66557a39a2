// Package config reads the settings of a process from its environment: it
// composes the Configs that the packages own, checks them against each other,
// and connects to Redis.
//
// [Load] returns all problems as one [Error]; a process starts only with valid
// settings. The package does not handle flags.
package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/otlp"
	"github.com/kyclink/kyclink/tasks"
)

// Limits of settings.
const (
	maxConcurrency = 1000 // calls in flight of a lane
	maxAttempts    = 99   // charged attempts of a request
	maxBurst       = 10_000
	maxBacklog     = 1_000_000_000 // requests of a lane
	// minRetention leaves time to read a link.
	minRetention = time.Second
	// minResultsCap leaves room for one page of a reader.
	minResultsCap = 1000
	// MaxTimeout limits one call to FaceKi. A worker that stops waits for its calls in
	// flight, and must end before its platform kills it. The limit is far below the
	// timeout of asynq's tasks.
	MaxTimeout = time.Minute
	// simulatedRate is the default rate per second with a simulator in this process, so
	// that a trial is short.
	simulatedRate = 200
)

// UnknownPolicy decides what happens after a call with an uncertain outcome.
type UnknownPolicy string

// The policies.
const (
	Retry UnknownPolicy = "retry" // call again, which may create a second link
	Hold  UnknownPolicy = "hold"  // leave the decision to an operator
)

// Config holds all settings of a process. [Load] returns a valid one.
type Config struct {
	// Account is the namespace of one FaceKi account in Redis.
	Account string
	// File has the settings of the account, if KYCLINK_ACCOUNTS lists it; else "". Exposed
	// reports that the file contains a secret, and that every user of the host may read it.
	File    string
	Exposed bool
	Redis   Redis
	// MaxBacklog limits the waiting and queued requests of a lane; 0 means no limit.
	MaxBacklog Backlog
	// RedirectHosts are the hosts that a redirect_url may name; if empty, any.
	RedirectHosts []string
	// FaceKi has no BaseURL if InProcess is set: the caller starts the simulator and knows
	// its address. Like Work, FaceKi is zero unless Needs.FaceKi is set.
	FaceKi faceki.Config
	// InProcess reports whether to run the simulator in this process.
	InProcess bool
	Work      Work
	// Callback configures where callbacks may be sent, and how.
	Callback callback.Config
	// API is zero unless Needs.API is set.
	API API
	// Ops is zero unless Needs.Ops is set.
	Ops Ops
	Log logging.Config
	// Tracing says where spans are sent to.
	Tracing otlp.Config
}

// shared holds the settings that every command reads.
type shared struct {
	Account    string `env:"KYCLINK_ACCOUNT, default=default"`
	Redis      Redis
	MaxBacklog Backlog `env:"KYCLINK_MAX_BACKLOG"`

	RedirectHosts []string `env:"KYCLINK_REDIRECT_HOSTS"`
	Callback      callback.Config
	Log           logging.Config
}

// EmbeddedRedis reports whether no Redis is set, so that the process runs its own.
func (c Config) EmbeddedRedis() bool { return c.Redis.URL == "" }

// Work configures how requests are processed.
type Work struct {
	// WorkflowID is for requests that name none; if empty, FaceKi's default applies.
	WorkflowID string `env:"FACEKI_WORKFLOW_ID"`
	// ExpiryMinutes is for requests that give none.
	ExpiryMinutes int `env:"KYCLINK_EXPIRY_MINUTES, default=1440"`
	// OnUnknown decides what happens after a call with an uncertain outcome.
	OnUnknown UnknownPolicy `env:"KYCLINK_ON_UNKNOWN, default=retry"`
	// MaxAttempts is the number of charged attempts after which a request fails.
	MaxAttempts int `env:"KYCLINK_MAX_ATTEMPTS, default=8"`
	// Retention is how long ended requests are kept.
	Retention time.Duration `env:"KYCLINK_RETENTION, default=720h"`
	// ResultsAge is how long events stay in the results stream; those that a live group
	// has not acknowledged stay longer. ResultsCap limits their number.
	ResultsAge time.Duration `env:"KYCLINK_RESULTS_AGE, default=168h"`
	ResultsCap int           `env:"KYCLINK_RESULTS_CAP, default=10000000"`
	// Concurrency limits the calls in flight of each lane.
	Concurrency Concurrency `env:"KYCLINK_CONCURRENCY, default=auto"`
	// Rate and Burst are what FaceKi allows the account.
	Rate  Rate `env:"FACEKI_RATE, default=5/s"`
	Burst int  `env:"FACEKI_BURST, default=5"`
}

// Validate returns all problems, each of which names its variable.
func (w Work) Validate() []error {
	var problems []error
	between := func(variable string, value, low, high int) {
		if value < low || value > high {
			problems = append(problems, fmt.Errorf("%s is %d; use a number from %d to %d", variable, value, low, high))
		}
	}
	between("KYCLINK_EXPIRY_MINUTES", w.ExpiryMinutes, 1, tasks.MaxExpiryMinutes)
	between("KYCLINK_MAX_ATTEMPTS", w.MaxAttempts, 1, maxAttempts)
	between("FACEKI_BURST", w.Burst, 2, maxBurst)
	if w.Retention < minRetention {
		problems = append(problems, fmt.Errorf("KYCLINK_RETENTION is %v; use at least %v, such as 720h", w.Retention, minRetention))
	}
	if w.ResultsAge < minRetention {
		problems = append(problems, fmt.Errorf("KYCLINK_RESULTS_AGE is %v; use at least %v, such as 168h", w.ResultsAge, minRetention))
	}
	if w.ResultsCap < minResultsCap {
		problems = append(problems, fmt.Errorf("KYCLINK_RESULTS_CAP is %d; use at least %d", w.ResultsCap, minResultsCap))
	}
	if w.OnUnknown != Retry && w.OnUnknown != Hold {
		problems = append(problems, fmt.Errorf("KYCLINK_ON_UNKNOWN is %q; use retry, which may create a second link, or hold, which leaves the decision to an operator", w.OnUnknown))
	}
	return problems
}

// Needs lists what a command needs. Settings that it does not need are not read.
type Needs struct {
	// Redis: the command works together with other processes, so that an embedded
	// Redis is not enough.
	Redis bool
	// FaceKi: the command creates links.
	FaceKi bool
	// API: the command serves the HTTP API.
	API bool
	// Callbacks: the command sends callbacks but creates no links.
	Callbacks bool
	// Ops: the command serves its health and metrics.
	Ops bool
	// Simulate selects the simulator at FACEKI_BASE_URL, or one in this process,
	// even if credentials are set. Without it the upstream is FaceKi.
	Simulate bool
	// Terminal: log lines go to a terminal.
	Terminal bool
}

// Load reads the settings from an environment in the form of os.Environ. The error
// is always an [*Error].
func Load(environ []string, needs Needs) (Config, error) {
	env := newEnvironment(environ)
	var all shared
	decode(env, &all)
	c := Config{Account: all.Account, Redis: all.Redis, MaxBacklog: all.MaxBacklog, RedirectHosts: all.RedirectHosts, Callback: all.Callback, Log: all.Log}
	if needs.FaceKi {
		decode(env, &c.FaceKi)
		decode(env, &c.Work)
		c.chooseUpstream(env, needs)
	}
	if needs.API {
		decode(env, &c.API)
	}
	if needs.Ops {
		decode(env, &c.Ops)
		c.Ops.Given = env.given("KYCLINK_OPS_LISTEN")
	}
	tracing, wrong := otlp.Load(func(variable string) string { return env.values[variable] })
	c.Tracing = tracing
	env.report(wrong...)
	if c.Log.Format == "" && needs.Terminal {
		c.Log.Format = logging.Console
	}
	env.report(c.validate(env, needs)...)
	if len(env.problems) > 0 {
		return Config{}, &Error{Problems: env.problems}
	}
	if c.InProcess {
		c.FaceKi.BaseURL = ""
	}
	return c, nil
}

// chooseUpstream decides between FaceKi and a simulator. Only a flag selects a
// simulator, so that missing credentials never lead to simulated links.
func (c *Config) chooseUpstream(env *environment, needs Needs) {
	c.FaceKi.Simulated = needs.Simulate
	c.InProcess = needs.Simulate && !env.given("FACEKI_BASE_URL")
	if !c.FaceKi.Simulated {
		return
	}
	if c.InProcess && !env.given("FACEKI_RATE") {
		c.Work.Rate = Rate{admission.Rate{N: simulatedRate, Per: time.Second}}
	}
	// The simulator accepts any credentials.
	if c.FaceKi.ClientID == "" {
		c.FaceKi.ClientID = "simulator"
	}
	if c.FaceKi.ClientSecret == "" {
		c.FaceKi.ClientSecret = "simulator"
	}
}

// validate returns the problems of all parts, and those of parts that do not fit together.
func (c Config) validate(env *environment, needs Needs) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !validAccount(c.Account) {
		problem("KYCLINK_ACCOUNT is %q; use 1 to 32 of a-z, 0-9 and -", c.Account)
	}
	for _, host := range c.RedirectHosts {
		if err := hostname.CheckPattern(host); err != nil {
			problem("KYCLINK_REDIRECT_HOSTS: %w", err)
		}
	}
	problems = append(problems, c.Redis.Validate()...)
	if needs.FaceKi {
		problems = append(problems, c.FaceKi.Validate()...)
		problems = append(problems, c.Work.Validate()...)
		problems = append(problems, c.upstreamProblems(needs)...)
	}
	problems = append(problems, c.Callback.Validate()...)
	if needs.Callbacks && !c.Callback.Callbacks().On() && !env.given("KYCLINK_CALLBACK_HOSTS") {
		problem("KYCLINK_CALLBACK_HOSTS is missing, so that callbacks are off; list the hosts that they may go to, such as shop.example")
	}
	if (needs.FaceKi || needs.Callbacks) && c.Callback.Secret == "" && c.Callback.Callbacks().On() {
		problem("KYCLINK_CALLBACK_SECRET is missing, while KYCLINK_CALLBACK_HOSTS turns callbacks on; make one with: kyclink callbacks secret")
	}
	if needs.API {
		problems = append(problems, c.API.Validate()...)
	}
	if needs.Ops {
		problems = append(problems, c.Ops.Validate()...)
	}
	if needs.API && needs.Ops && c.Ops.Given && sameAddress(c.API.Listen, c.Ops.Listen) {
		problem("KYCLINK_OPS_LISTEN is %q, which KYCLINK_LISTEN (%q) uses already; give them different ports", c.Ops.Listen, c.API.Listen)
	}
	problems = append(problems, c.Log.Validate()...)

	redisGiven := env.given("KYCLINK_REDIS_URL")
	if needs.Redis && !redisGiven {
		problem("KYCLINK_REDIS_URL is missing; set it to the Redis that all processes share, such as redis://127.0.0.1:6379/0")
	}
	if needs.Redis && env.given("KYCLINK_ACCOUNTS") && !env.given("KYCLINK_ACCOUNT") {
		problem("KYCLINK_ACCOUNT is missing, while KYCLINK_ACCOUNTS lists several; set it to the account that this command is for")
	}
	if c.Redis.Mode != Single && !redisGiven {
		problem("KYCLINK_REDIS_MODE is %q without KYCLINK_REDIS_URL; set the URL as well, or unset the mode", c.Redis.Mode)
	}
	if variables := c.Redis.files(); len(variables) > 0 && !redisGiven {
		problem("%s is set without KYCLINK_REDIS_URL; set the URL as well, or unset the variable", variables[0])
	}
	return problems
}

// upstreamProblems returns the problems of FaceKi's settings that only this package can
// detect.
func (c Config) upstreamProblems(needs Needs) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if needs.Simulate && isFaceKi(c.FaceKi.BaseURL) && !c.InProcess {
		problem("FACEKI_BASE_URL is FaceKi itself, while --simulate selects the simulator; unset it, or name a simulator's address")
	}
	if c.FaceKi.Timeout > MaxTimeout {
		problem("FACEKI_TIMEOUT is %v; use at most %v, because a worker that stops waits for its calls", c.FaceKi.Timeout, MaxTimeout)
	}
	return problems
}

// isFaceKi reports whether a URL leads to FaceKi itself. A host may end in a dot.
func isFaceKi(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil {
		return false
	}
	host := "." + strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return strings.HasSuffix(host, ".faceki.com")
}

// LoadWork reads only the settings of [Work], for a command that creates no links itself
// but estimates what workers with the same settings do. The error is always an [*Error].
func LoadWork(environ []string) (Work, error) {
	env := newEnvironment(environ)
	var w Work
	decode(env, &w)
	env.report(w.Validate()...)
	if len(env.problems) > 0 {
		return Work{}, &Error{Problems: env.problems}
	}
	return w, nil
}
