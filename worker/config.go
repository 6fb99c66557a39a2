package worker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/tasks"
)

// Config configures a [Worker]. Every field but Account may be left at its zero value.
type Config struct {
	// Account is the FaceKi account that the worker makes links for.
	Account Account
	// Defaults are the settings of requests that do not set their own.
	Defaults Defaults
	// Calls limits the calls to the upstream.
	Calls Calls
	// Retry says what follows a failed call.
	Retry Retry
	// Retention says how long ended requests and published events are kept.
	Retention Retention
	// Callbacks says how events are delivered to callback URLs.
	Callbacks Callbacks
	// Journal stores each record outside Redis as well; nil: it is stored in Redis only.
	Journal Journal
	// Rest lets the worker rest while its account has no work; nil: it never rests.
	Rest Rest
	// Beside runs while the worker takes requests, until it drains or rests, such as a reader
	// of another source of requests; nil: nothing does.
	Beside func(ctx context.Context)
	// Blocking is the client for commands that wait in Redis until there is a task or an
	// event; nil: the worker's own client. Each occupies a connection all the time; a worker
	// has up to five.
	Blocking redis.UniversalClient
	// Telemetry receives logs, metrics and traces.
	Telemetry Telemetry
}

// Account describes an account, and how this worker joins it.
type Account struct {
	// Name is the namespace of the account in Redis. Producers use the same name.
	Name string
	// Simulated says that the upstream makes simulated links. An account is real or
	// simulated from its first worker on; a worker of the other kind cannot join it.
	Simulated bool
	// Credential identifies the credentials of the upstream, without revealing them.
	// When the upstream refuses them, workers with other credentials go on.
	Credential string
	// Rate and Burst are the account's rate limit from the moment that this worker
	// joins. A zero Rate leaves the limit as it is.
	Rate  Rate
	Burst int
}

// Rate is a number of calls per second, minute or hour.
type Rate struct {
	N   int           // from 1 to 100000
	Per time.Duration // time.Second, time.Minute or time.Hour
}

// Defaults are the settings of requests that do not set their own. The ones in force at
// the first call of a request are stored with it.
type Defaults struct {
	// ExpiryMinutes is how long a link is valid; 0: the upstream decides.
	ExpiryMinutes int
	// WorkflowID selects the verification workflow; "": the upstream decides.
	WorkflowID string
}

// Calls limits the calls that one worker has in flight.
type Calls struct {
	// Concurrency is the number of calls that a lane has in flight at a time; 0 means 10.
	Concurrency int
	// Auto lowers the concurrency to what the rate limit and the usual latency need.
	Auto bool
	// Timeout is the longest that a call takes; 0 means 15 s. The upstream enforces it.
	// A stopping worker waits that long for calls in flight.
	Timeout time.Duration
}

// Retry says what follows a failed call.
type Retry struct {
	// MaxAttempts is the number of charged attempts after which a request fails; 0 means 8.
	MaxAttempts int
	// HoldUncertain holds a request whose call may have made a link until an operator
	// decides, instead of calling again.
	HoldUncertain bool
	// BackoffBase and BackoffCap bound the pauses between the attempts of a request; 0
	// means 2 s and 10 min.
	BackoffBase, BackoffCap time.Duration
}

// Retention says how long data is kept.
type Retention struct {
	// Requests is how long ended requests are kept; 0: for ever.
	Requests time.Duration
	// Results is how long events stay in the results stream; 0: for ever.
	Results time.Duration
	// ResultsCap is the number of events above which the oldest are removed; it has no
	// effect when Results is 0.
	ResultsCap int
}

// Callbacks says how events are delivered to callback URLs.
type Callbacks struct {
	// Poster sends the callbacks; nil: this worker delivers none.
	Poster Poster
	// Pauses are the pauses between the attempts of a delivery, which is given up after
	// the last one; nil means [CallbackPauses].
	Pauses []time.Duration
	// Attempted, if not nil, is called after each attempt to deliver. The result is
	// "delivered", "retried" or "given_up"; reason is that of the [Reply]. It must not block.
	Attempted func(result, reason string, took time.Duration)
}

// Journal stores the records of requests outside Redis.
type Journal interface {
	// Write stores a record, which is a JSON object on one line. Its keys application_id and
	// generation identify it, and it replaces the earlier record of the same generation. The
	// worker calls Write before it sends a call and after each transition, and continues when
	// Write has returned. It retries an error, unless the error has a method Fatal that
	// returns true, which ends the worker.
	Write(ctx context.Context, record []byte) error
}

// Rest tells whether an account has work. A worker that rests remains a member of the fleet and
// does little else, so that a process can have many workers of idle accounts.
type Rest interface {
	// Idle reports whether the account has no work.
	Idle(ctx context.Context) (bool, error)
	// Await returns when the account may have work, or ctx is done.
	Await(ctx context.Context)
}

// Telemetry receives logs, metrics and traces.
type Telemetry struct {
	// Log receives a line for each attempt that ends a request; nil: nothing is logged.
	Log *zap.Logger
	// Limited receives messages that may repeat many times a second, such as those of a
	// lost connection to Redis. It should pass each message only now and then; nil:
	// they are not logged.
	Limited *zap.Logger
	// Meter records metrics; nil: none are recorded.
	Meter Meter
	// TracerProvider receives spans of attempts and callbacks; nil: none are made.
	TracerProvider trace.TracerProvider
}

// Meter records worker metrics. Many goroutines call it; it must not block. The span of an
// attempt is in the context, if there is one.
type Meter interface {
	// Admitted records a call that was admitted, and how long its request waited in
	// this process.
	Admitted(ctx context.Context, lane tasks.Lane, wait time.Duration)
	// Attempt records a call that was sent and has ended. The outcome is "created",
	// "no_link", or "unknown" if a link may have been made; reason is that of the fault, ""
	// if a link was made.
	Attempt(ctx context.Context, lane tasks.Lane, outcome, reason string, took time.Duration)
	// Created records a link that was made, and how long ago its request was accepted.
	Created(ctx context.Context, lane tasks.Lane, after time.Duration)
	// Recovered records what the recovery repaired or removed: n of one kind.
	Recovered(kind string, n int)
}

// noMeter records nothing.
type noMeter struct{}

func (noMeter) Admitted(context.Context, tasks.Lane, time.Duration)                {}
func (noMeter) Attempt(context.Context, tasks.Lane, string, string, time.Duration) {}
func (noMeter) Created(context.Context, tasks.Lane, time.Duration)                 {}
func (noMeter) Recovered(string, int)                                              {}

func (c Config) withDefaults() Config {
	setDefault(&c.Calls.Concurrency, 10)
	setDefault(&c.Calls.Timeout, 15*time.Second)
	setDefault(&c.Retry.MaxAttempts, 8)
	setDefault(&c.Retry.BackoffBase, 2*time.Second)
	setDefault(&c.Retry.BackoffCap, 10*time.Minute)
	if c.Callbacks.Attempted == nil {
		c.Callbacks.Attempted = func(string, string, time.Duration) {}
	}
	if c.Callbacks.Pauses == nil {
		c.Callbacks.Pauses = CallbackPauses()
	}
	if c.Telemetry.Log == nil {
		c.Telemetry.Log = zap.NewNop()
	}
	if c.Telemetry.Limited == nil {
		c.Telemetry.Limited = zap.NewNop()
	}
	if c.Telemetry.Meter == nil {
		c.Telemetry.Meter = noMeter{}
	}
	return c
}

// setDefault sets a value that is zero.
func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// CallbackPauses returns the default pauses between the attempts of a delivery, which is
// given up after nine attempts.
func CallbackPauses() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	}
}
