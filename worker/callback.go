package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Deliveries is what callbacks need of the ledger.
type Deliveries interface {
	// OpenDeliveries makes the deliveries of events whose requests have a callback
	// URL, and gives those that are to be tried. It may be repeated.
	OpenDeliveries(ctx context.Context, events []tasks.Event) ([]delivery.Task, error)
	// BeginDelivery counts an attempt; ok is false where none is to be made any more.
	BeginDelivery(ctx context.Context, of delivery.Task) (d delivery.Delivery, ok bool, err error)
	// EndDelivery records what came of it; again is after how long it is tried again,
	// 0 where it is given up.
	EndDelivery(ctx context.Context, d delivery.Delivery, r delivery.Reply, again time.Duration) (delivery.Status, error)
}

const (
	// callbackGroup is the consumer group of the dispatcher. It is no name that
	// somebody takes for their own readers, which would take events from it.
	callbackGroup    = "kyclink:callbacks"
	callbackType     = "kyclink:callback"
	callbackSlots    = 128 // a slot costs little: it waits for a receiver
	callbackPoll     = 50 * time.Millisecond
	callbackTimeout  = 24 * time.Hour // asynq's; a handler has its own, of seconds
	dispatchBatch    = 100            // events that are read and opened at a time
	dispatchAtOnce   = 16             // tasks that are enqueued at a time
	dispatchClaim    = 15 * time.Second
	jitterPerPause   = 5 // a fifth of a pause at most comes on top of it
	proxyPauseNumber = 1 // of the pauses, after our own proxy failed
)

// dispatch is the payload of a callback's task, whose id is the event's.
type dispatch struct {
	ApplicationID string `json:"application_id"`
	Host          string `json:"host"`
	Again         int    `json:"again,omitempty"`
}

// EnqueueCallback enqueues the task of a delivery; fresh is false where there is
// one already, which is as good.
func EnqueueCallback(ctx context.Context, queue *asynq.Client, account string, d delivery.Task) (fresh bool, err error) {
	payload, err := json.Marshal(dispatch{d.ApplicationID, d.Host, d.Again})
	if err != nil {
		return false, fmt.Errorf("encode the callback of %s: %w", d.EventID, err)
	}
	_, err = queue.EnqueueContext(ctx, asynq.NewTask(callbackType, payload),
		asynq.TaskID(d.EventID),
		asynq.Queue(keyspace.Keys{Account: account}.Queue(request.Callbacks)),
		asynq.MaxRetry(math.MaxInt32),
		asynq.Timeout(callbackTimeout),
	)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("enqueue the callback of %s: %w", d.EventID, err)
	}
	return true, nil
}

// dispatcher makes a task of every event whose request has a callback URL, whoever
// caused the event.
type dispatcher struct {
	book    Deliveries
	queue   *asynq.Client
	account string
	results *tasks.Results
}

func newDispatcher(rdb redis.UniversalClient, queue *asynq.Client, book Deliveries, cfg Config) *dispatcher {
	return &dispatcher{
		book: book, queue: queue, account: cfg.Account.Name,
		results: tasks.NewResults(rdb, tasks.ResultsConfig{
			Account: cfg.Account.Name, Group: callbackGroup, Consumer: uuid.NewString(), Concurrency: 4, ClaimAfter: dispatchClaim,
			OnError: func(err error) {
				cfg.Telemetry.Limited.Warn("callbacks could not be dispatched; trying again", zap.Error(err))
			},
		}),
	}
}

func (d *dispatcher) run(ctx context.Context) error {
	return d.results.RunBatches(ctx, dispatchBatch, d.take)
}

// take may be broken off anywhere: the events come again then, and find what was
// done.
func (d *dispatcher) take(ctx context.Context, events []tasks.Event) error {
	open, err := d.book.OpenDeliveries(ctx, events)
	if err != nil {
		return err
	}
	failpoint.Hit("opened")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dispatchAtOnce)
	for _, one := range open {
		group.Go(func() error {
			_, err := EnqueueCallback(ctx, d.queue, d.account, one)
			return err
		})
	}
	err = group.Wait()
	failpoint.Hit("dispatched")
	return err
}

// callbackLane is the handlers of callbacks of this process.
type callbackLane struct {
	*pipeline
	book   Deliveries
	poster Poster
	pauses []time.Duration
	hosts  *hosts

	mu   sync.Mutex
	open map[string]bool // events that have a handler
	wait sync.WaitGroup
}

func newCallbackLane(p *pipeline, book Deliveries, cfg Config) *callbackLane {
	return &callbackLane{pipeline: p, book: book, poster: cfg.Callbacks.Poster, pauses: cfg.Callbacks.Pauses, hosts: newHosts(), open: map[string]bool{}}
}

// handled gives the tasks that have a handler.
func (l *callbackLane) handled() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := make([]string, 0, len(l.open))
	for event := range l.open {
		events = append(events, event)
	}
	return events
}

// enter is refused while another handler of this process has the delivery.
func (l *callbackLane) enter(event string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[event] {
		return false
	}
	l.open[event] = true
	l.wait.Add(1)
	return true
}

func (l *callbackLane) leave(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, event)
	l.wait.Done()
}

// ProcessTask makes one attempt to deliver. It returns nil where nothing more is to
// be done, whatever came of it, and a [*later] where the task is to come again.
func (l *callbackLane) ProcessTask(ctx context.Context, task *asynq.Task) (err error) {
	event, _ := asynq.GetTaskID(ctx)
	var payload dispatch
	if task.Type() != callbackType || json.Unmarshal(task.Payload(), &payload) != nil {
		return l.putAside(ctx, task, event, "it is no callback's task")
	}
	if !l.enter(event) {
		return &later{busyDelay}
	}
	defer l.leave(event)
	defer func() {
		if what := recover(); what != nil { // asynq would keep its text, which may hold anything
			l.log.Error("a callback panicked", zap.String("event", event), zap.String("type", fmt.Sprintf("%T", what)), zap.StackSkip("stack", 1))
			err = &later{l.pauses[0]}
		}
	}()
	if l.over(ctx) {
		return &later{}
	}
	putOff, ok := l.hosts.enter(ctx, payload.Host)
	if !ok {
		return &later{putOff}
	}
	var heard heard
	defer func() { l.hosts.leave(payload.Host, heard) }()
	of := delivery.Task{EventID: event, ApplicationID: payload.ApplicationID, Host: payload.Host, Again: payload.Again}
	heard, err = l.attempt(ctx, of)
	return err
}

// attempt gives what was heard of the receiver as well.
func (l *callbackLane) attempt(ctx context.Context, of delivery.Task) (_ heard, err error) {
	d, ok, err := l.book.BeginDelivery(ctx, of)
	if err != nil {
		l.limited.Warn("a callback could not be begun; it comes again", zap.Error(err))
		return heard{}, &later{l.policy.pause()}
	}
	if !ok {
		return heard{}, nil
	}
	failpoint.Hit("posting")
	begun := time.Now()
	// One that was sent is seen through: to break it off would be to deliver it again.
	reply := l.poster.Post(context.WithoutCancel(ctx), d)
	took := time.Since(begun)
	failpoint.Hit("posted")
	again := l.pause(d, reply)
	if !reply.NoAttempt && (reply.Final || d.Tries > len(l.pauses)) {
		again = 0
	}
	var status delivery.Status
	err = l.insist(ctx, func(ctx context.Context) (err error) {
		status, err = l.book.EndDelivery(ctx, d, reply, again)
		return err
	})
	l.logDelivery(d, reply, status, took, err)
	if err != nil || status == delivery.Pending {
		err = &later{max(again, l.pauses[0])}
	}
	if reply.NoAttempt {
		return heard{}, err
	}
	return heard{took: took, answered: reply.Code != 0}, err
}

// pause is before the next attempt.
func (l *callbackLane) pause(d delivery.Delivery, reply delivery.Reply) time.Duration {
	n := min(d.Tries, len(l.pauses)) - 1
	if reply.NoAttempt {
		n = proxyPauseNumber
	}
	pause := max(l.pauses[n], reply.RetryAfter)
	return pause + l.policy.random(pause/jitterPerPause)
}

// logDelivery names the host alone: a URL may hold what only its receiver is to
// know, and so may what the receiver said.
func (l *callbackLane) logDelivery(d delivery.Delivery, reply delivery.Reply, status delivery.Status, took time.Duration, err error) {
	l.meter.Delivery(reply, status, took)
	fields := []zap.Field{
		zap.String("event", d.EventID), zap.String("application_id", d.ApplicationID), zap.String("host", d.Host), zap.String("status", string(status)),
		zap.Int("attempt", d.Attempts), zap.Duration("took", took),
	}
	if !reply.Taken() {
		fields = append(fields, zap.String("reason", reply.Reason), zap.String("message", reply.Message))
	}
	switch {
	case err != nil:
		l.log.Error("callback: its answer could not be recorded", append(fields, zap.Error(err))...)
	default:
		l.log.Debug("callback", fields...)
	}
	// A dead receiver may have a million of them: one of each kind now and then.
	switch {
	case status == delivery.GivenUp:
		l.limited.Warn("a callback was given up; kyclink callbacks list shows all that were", fields...)
	case !reply.Taken() && status == delivery.Pending:
		l.limited.Warn("a callback was not delivered; trying again", fields...)
	}
}
