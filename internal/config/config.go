// Package config reads the settings of a process from its environment: it
// composes the Configs that the packages own, checks what concerns more than
// one of them, and connects to Redis.
//
// All problems are found in one go and returned as one [Error]; nothing is
// started with settings that are partly right. Flags are none of its business.
package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/telemetry"
	"github.com/kyclink/kyclink/tasks"
)

// Limits of settings.
const (
	MaxConcurrency = 1000 // slots of a lane
	MaxAttempts    = 99   // spent failures of a request
	MaxBurst       = 10_000
	MaxBacklog     = 1_000_000_000 // requests of a lane
	// MinRetention is of ended requests: a link must live until somebody has read it.
	MinRetention = time.Second
	// MinResultsCap leaves room for what a reader takes up at a time.
	MinResultsCap = 1000
	// MaxTimeout is of one call to FaceKi: a worker that stops waits for the
	// calls that it sent, and whoever stops it will not wait much longer. It is
	// far below the time-out of asynq's tasks, which is the next one.
	MaxTimeout = time.Minute
	// simulatedRate is of the simulator in this process, per second: a rehearsal
	// is not to take as long as the real thing.
	simulatedRate = 200
)

// The policies of [Work].OnUnknown.
const (
	Retry = "retry" // try again, which may make a second link
	Hold  = "hold"  // leave it to a person
)

// Config is all that is set. What [Load] returns is valid.
type Config struct {
	// Account is the namespace of one FaceKi account in Redis.
	Account string
	Redis   Redis
	// MaxBacklog is how many requests of a lane may wait and be queued; 0: any number.
	MaxBacklog Backlog
	// RedirectHosts are the hosts that a redirect_url may lead to; any where there is
	// none.
	RedirectHosts []string
	// FaceKi has no BaseURL where InProcess: whoever starts the simulator
	// knows its address. Like Work, it is zero where Needs.FaceKi is not set.
	FaceKi faceki.Config
	// InProcess says that the simulator is to be run in this process.
	InProcess bool
	Work      Work
	// Callback says where callbacks may go, and how.
	Callback callback.Config
	// API is zero where Needs.API is not set.
	API API
	// Ops is zero where Needs.Ops is not set.
	Ops Ops
	Log telemetry.Config
}

// shared is what every command reads.
type shared struct {
	Account    string `env:"KYCLINK_ACCOUNT, default=default"`
	Redis      Redis
	MaxBacklog Backlog `env:"KYCLINK_MAX_BACKLOG"`

	RedirectHosts []string `env:"KYCLINK_REDIRECT_HOSTS"`
	Callback      callback.Config
	Log           telemetry.Config
}

// EmbeddedRedis says that no Redis was named, so that the process runs its own.
func (c Config) EmbeddedRedis() bool { return c.Redis.URL == "" }

// Work is how requests are worked on.
type Work struct {
	// WorkflowID is for requests that name none; FaceKi's own default where empty.
	WorkflowID string `env:"FACEKI_WORKFLOW_ID"`
	// ExpiryMinutes is for requests that give none.
	ExpiryMinutes int `env:"KYCLINK_EXPIRY_MINUTES, default=1440"`
	// OnUnknown is what follows a call of which nobody knows whether it made a
	// link: [Retry] or [Hold].
	OnUnknown string `env:"KYCLINK_ON_UNKNOWN, default=retry"`
	// MaxAttempts is how many spent failures end a request.
	MaxAttempts int `env:"KYCLINK_MAX_ATTEMPTS, default=8"`
	// Retention is how long ended requests are kept.
	Retention time.Duration `env:"KYCLINK_RETENTION, default=720h"`
	// ResultsAge is how long events stay in the results stream, and longer where a
	// live group has not acknowledged them; ResultsCap how many there are at most.
	ResultsAge time.Duration `env:"KYCLINK_RESULTS_AGE, default=168h"`
	ResultsCap int           `env:"KYCLINK_RESULTS_CAP, default=10000000"`
	// Concurrency is the slots of each lane.
	Concurrency Slots `env:"KYCLINK_CONCURRENCY, default=auto"`
	// Rate and Burst are what FaceKi allows the account.
	Rate  Rate `env:"FACEKI_RATE, default=5/s"`
	Burst int  `env:"FACEKI_BURST, default=5"`
}

// Validate gives all problems at once, each with its variable's name.
func (w Work) Validate() []error {
	var problems []error
	between := func(variable string, value, low, high int) {
		if value < low || value > high {
			problems = append(problems, fmt.Errorf("%s is %d; use a number from %d to %d", variable, value, low, high))
		}
	}
	between("KYCLINK_EXPIRY_MINUTES", w.ExpiryMinutes, 1, tasks.MaxExpiryMinutes)
	between("KYCLINK_MAX_ATTEMPTS", w.MaxAttempts, 1, MaxAttempts)
	between("FACEKI_BURST", w.Burst, 2, MaxBurst)
	if w.Retention < MinRetention {
		problems = append(problems, fmt.Errorf("KYCLINK_RETENTION is %v; use at least %v, such as 720h", w.Retention, MinRetention))
	}
	if w.ResultsAge < MinRetention {
		problems = append(problems, fmt.Errorf("KYCLINK_RESULTS_AGE is %v; use at least %v, such as 168h", w.ResultsAge, MinRetention))
	}
	if w.ResultsCap < MinResultsCap {
		problems = append(problems, fmt.Errorf("KYCLINK_RESULTS_CAP is %d; use at least %d", w.ResultsCap, MinResultsCap))
	}
	if w.OnUnknown != Retry && w.OnUnknown != Hold {
		problems = append(problems, fmt.Errorf("KYCLINK_ON_UNKNOWN is %q; use retry, which may make a second link, or hold, which leaves it to a person", w.OnUnknown))
	}
	return problems
}

// Needs is what the command that asks has to have.
type Needs struct {
	// Redis says that the command works together with other processes, so that
	// an embedded Redis will not do.
	Redis bool
	// FaceKi says that the command makes links: without it, what is set of
	// FaceKi and of the work is not even read.
	FaceKi bool
	// API says that the command answers HTTP requests.
	API bool
	// Callbacks says that the command sends callbacks and does nothing else.
	Callbacks bool
	// Ops says that the command can be asked for its health and its metrics.
	Ops bool
	// Simulate selects the simulator at FACEKI_BASE_URL, or one in this process,
	// even if credentials are set. Without it the upstream is FaceKi.
	Simulate bool
	// Terminal says that log lines go to a terminal, where people read them.
	Terminal bool
}

// Load reads the settings from an environment as os.Environ gives it. The error
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
	if c.Log.Format == "" && needs.Terminal {
		c.Log.Format = telemetry.Console
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
// simulator: nobody who forgot the credentials may get simulated links.
func (c *Config) chooseUpstream(env *environment, needs Needs) {
	c.FaceKi.Simulated = needs.Simulate
	c.InProcess = needs.Simulate && !env.given("FACEKI_BASE_URL")
	if !c.FaceKi.Simulated {
		return
	}
	if c.InProcess && !env.given("FACEKI_RATE") {
		c.Work.Rate = Rate{admission.Rate{N: simulatedRate, Per: time.Second}}
	}
	// The simulator takes any credentials, so none have to be invented.
	if c.FaceKi.ClientID == "" {
		c.FaceKi.ClientID = "simulator"
	}
	if c.FaceKi.ClientSecret == "" {
		c.FaceKi.ClientSecret = "simulator"
	}
}

// validate joins what the parts say with what only concerns them together.
func (c Config) validate(env *environment, needs Needs) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !regexp.MustCompile(`^[a-z0-9-]{1,32}$`).MatchString(c.Account) {
		problem("KYCLINK_ACCOUNT is %q; use 1 to 32 of a-z, 0-9 and -", c.Account)
	}
	for _, host := range c.RedirectHosts {
		if err := CheckRedirectHost(host); err != nil {
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
		problem("KYCLINK_OPS_LISTEN is %q, which KYCLINK_LISTEN (%q) takes; give them different ports", c.Ops.Listen, c.API.Listen)
	}
	problems = append(problems, c.Log.Validate()...)

	redisGiven := env.given("KYCLINK_REDIS_URL")
	if needs.Redis && !redisGiven {
		problem("KYCLINK_REDIS_URL is missing; set it to the Redis that all processes share, such as redis://127.0.0.1:6379/0")
	}
	if c.Redis.Mode != Single && !redisGiven {
		problem("KYCLINK_REDIS_MODE is %q without KYCLINK_REDIS_URL; set the URL, too, or unset the mode", c.Redis.Mode)
	}
	return problems
}

// upstreamProblems is what the parts that make links say of each other.
func (c Config) upstreamProblems(needs Needs) []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if needs.Simulate && isFaceKi(c.FaceKi.BaseURL) && !c.InProcess {
		problem("FACEKI_BASE_URL is FaceKi itself, while --simulate asks for the simulator; unset it, or name a simulator's address")
	}
	if c.FaceKi.Timeout > MaxTimeout {
		problem("FACEKI_TIMEOUT is %v; use at most %v, as a worker that stops waits for its calls", c.FaceKi.Timeout, MaxTimeout)
	}
	return problems
}

// isFaceKi says whether the URL leads to the vendor. A host may end in a dot.
func isFaceKi(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil {
		return false
	}
	host := "." + strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return strings.HasSuffix(host, ".faceki.com")
}
