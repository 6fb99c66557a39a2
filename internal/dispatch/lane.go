package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/tracing"
)

const (
	// Concurrency is the number of handlers of a process. A handler costs little: it
	// waits for a receiver.
	Concurrency = 128

	busyDelay        = 5 * time.Second // of a task that this process already handles
	jitterPerPause   = 5               // a fifth of a pause at most is added to it
	proxyPauseNumber = 1               // the pause after kyclink's own proxy failed
)

// Deliveries records attempts to deliver.
type Deliveries interface {
	// Begin counts an attempt; ok is false if none is to be made.
	Begin(ctx context.Context, of delivery.Task) (d delivery.Delivery, ok bool, err error)
	// End records the outcome; again is the delay before the next attempt, 0 if
	// the delivery is given up.
	End(ctx context.Context, d delivery.Delivery, r delivery.Reply, again time.Duration) (delivery.Status, error)
}

// Poster sends callbacks.
type Poster interface {
	// Post makes one attempt.
	Post(ctx context.Context, d delivery.Delivery) delivery.Reply
}

// LaneConfig configures a [Lane].
type LaneConfig struct {
	Deliveries Deliveries
	Poster     Poster
	Pauses     []time.Duration // between the attempts of a delivery
	Lifecycle  *lifecycle.Lifecycle
	Quarantine asynqx.Quarantine
	Telemetry  Telemetry
}

// Telemetry receives what a [Lane] reports.
type Telemetry struct {
	// Log receives a line for each attempt; Limited receives messages that may repeat.
	Log, Limited *zap.Logger
	// Attempted is called after each attempt. The result is "delivered", "retried" or
	// "given_up"; reason is that of the reply.
	Attempted func(result, reason string, took time.Duration)
	// Tracer makes a span of each attempt; nil: none.
	Tracer *tracing.Tracer
}

// Lane handles the tasks of deliveries in one process.
type Lane struct {
	cfg   LaneConfig
	hosts *hosts

	mu      sync.Mutex
	handled map[string]bool // events that have a handler
	running sync.WaitGroup
}

// NewLane returns a lane.
func NewLane(cfg LaneConfig) *Lane {
	return &Lane{cfg: cfg, hosts: newHosts(), handled: map[string]bool{}}
}

// Handled returns the tasks that have a handler.
func (l *Lane) Handled() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := make([]string, 0, len(l.handled))
	for event := range l.handled {
		events = append(events, event)
	}
	return events
}

// Wait waits until no task has a handler.
func (l *Lane) Wait() { l.running.Wait() }

// enter returns false if another handler of this process has the delivery.
func (l *Lane) enter(event string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handled[event] {
		return false
	}
	l.handled[event] = true
	l.running.Add(1)
	return true
}

func (l *Lane) leave(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.handled, event)
	l.running.Done()
}

// ProcessTask makes one attempt to deliver. It returns nil if the task has done its work,
// whatever the outcome, and an [*asynqx.Later] if the task must run again.
func (l *Lane) ProcessTask(ctx context.Context, task *asynq.Task) (err error) {
	event, _ := asynq.GetTaskID(ctx)
	var content payload
	if task.Type() != taskType || json.Unmarshal(task.Payload(), &content) != nil {
		return l.cfg.Quarantine.Put(ctx, task, "it is not the task of a callback")
	}
	if !l.enter(event) {
		return &asynqx.Later{Delay: busyDelay}
	}
	defer l.leave(event)
	defer func() {
		if value := recover(); value != nil { // asynq would store its text, which may contain a secret
			l.cfg.Telemetry.Log.Error("callback handler panicked", zap.String("event", event), zap.String("type", fmt.Sprintf("%T", value)), zap.StackSkip("stack", 1))
			err = &asynqx.Later{Delay: l.cfg.Pauses[0]}
		}
	}()
	if l.cfg.Lifecycle.Stopped(ctx) {
		return &asynqx.Later{}
	}
	postpone, ok := l.hosts.enter(ctx, content.Host)
	if !ok {
		return &asynqx.Later{Delay: postpone}
	}
	var seen contact
	defer func() { l.hosts.leave(content.Host, seen) }()
	seen, err = l.attempt(ctx, delivery.Task{EventID: event, ApplicationID: content.ApplicationID, Host: content.Host, RestartAfter: content.Again})
	return err
}

// attempt makes one attempt, and returns what it showed about the receiver.
func (l *Lane) attempt(ctx context.Context, of delivery.Task) (_ contact, err error) {
	d, ok, err := l.cfg.Deliveries.Begin(ctx, of)
	if err != nil {
		l.cfg.Telemetry.Limited.Warn("beginning a delivery failed; retrying", zap.Error(err))
		return contact{}, &asynqx.Later{Delay: time.Second + random(4*time.Second)}
	}
	if !ok {
		return contact{}, nil
	}
	failpoint.Hit("posting")
	ctx, span := l.cfg.Telemetry.Tracer.Continue(ctx, "callback", trace.SpanKindClient,
		tracing.Origin{Stored: d.Trace, Own: d.Batch == 0 && d.Attempts == 1}, time.Time{})
	defer span.End()
	span.Attempt(d.Attempts)
	begun := time.Now()
	// An attempt in flight is finished: otherwise the event would be delivered twice.
	reply := l.cfg.Poster.Post(context.WithoutCancel(ctx), d)
	took := time.Since(begun)
	failpoint.Hit("posted")
	again := l.pause(d, reply)
	if !reply.NoAttempt && (reply.Final || d.Tries > len(l.cfg.Pauses)) {
		again = 0
	}
	var status delivery.Status
	err = l.cfg.Lifecycle.Persist(ctx, func(ctx context.Context) (err error) {
		status, err = l.cfg.Deliveries.End(ctx, d, reply, again)
		return err
	})
	span.Outcome(resultOf(reply, status), reply.Reason)
	l.log(ctx, d, reply, status, took, err)
	if err != nil || status == delivery.Pending {
		err = &asynqx.Later{Delay: max(again, l.cfg.Pauses[0])}
	}
	if reply.NoAttempt {
		return contact{}, err
	}
	return contact{took: took, answered: reply.Code != 0}, err
}

// pause returns the pause before the next attempt.
func (l *Lane) pause(d delivery.Delivery, reply delivery.Reply) time.Duration {
	n := min(d.Tries, len(l.cfg.Pauses)) - 1
	if reply.NoAttempt {
		n = proxyPauseNumber
	}
	pause := max(l.cfg.Pauses[n], reply.RetryAfter)
	return pause + random(pause/jitterPerPause)
}

// log names the host only: the rest of the URL and the receiver's answer may contain
// secrets.
func (l *Lane) log(ctx context.Context, d delivery.Delivery, reply delivery.Reply, status delivery.Status, took time.Duration, err error) {
	l.cfg.Telemetry.Attempted(resultOf(reply, status), reply.Reason, took)
	fields := []zap.Field{
		zap.String("event", d.EventID), zap.String("application_id", d.ApplicationID), zap.String("host", d.Host), zap.String("status", string(status)),
		zap.Int("attempt", d.Attempts), zap.Duration("took", took),
	}
	if id := tracing.TraceID(ctx); id != "" {
		fields = append(fields, zap.String("trace_id", id))
	}
	if !reply.Accepted() {
		fields = append(fields, zap.String("reason", reply.Reason), zap.String("message", reply.Message))
	}
	if err != nil {
		l.cfg.Telemetry.Log.Error("delivery attempt not recorded", append(fields, zap.Error(err))...)
	} else {
		l.cfg.Telemetry.Log.Debug("delivery attempt", fields...)
	}
	// A dead receiver may have a million deliveries: one line of each kind now and then.
	switch {
	case status == delivery.GivenUp:
		l.cfg.Telemetry.Limited.Warn("callback given up; kyclink callbacks list shows all of them", fields...)
	case !reply.Accepted() && status == delivery.Pending:
		l.cfg.Telemetry.Limited.Warn("callback failed; retrying", fields...)
	}
}

// resultOf returns the result of an attempt, after which the delivery has the status.
func resultOf(reply delivery.Reply, status delivery.Status) string {
	switch {
	case reply.Accepted():
		return "delivered"
	case status == delivery.GivenUp:
		return "given_up"
	}
	return "retried"
}

// random returns a duration between 0 and d.
func random(d time.Duration) time.Duration { return rand.N(d + 1) }
