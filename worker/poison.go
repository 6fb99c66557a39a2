package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
)

// Bin is where what cannot be handled goes.
type Bin interface {
	// Panicked counts a panic of a turn's handler, in the whole fleet.
	Panicked(ctx context.Context, ref request.Ref) (int, error)
	// Poison ends a request that cannot be handled; nonce is that of a grant that was
	// not used, or "".
	Poison(ctx context.Context, ref request.Ref, nonce, message string) (request.State, error)
	// PutAside keeps what stands for no request.
	PutAside(ctx context.Context, p quarantine.Entry) error
}

const (
	mostPanics = 3                // of one turn
	earlyMost  = 5 * time.Second  // before its time, to come again by itself
	newerPause = 30 * time.Second // of a task that is a newer worker's
)

// putAside ends a task that stands for no request, and keeps it for a person.
func (p *pipeline) putAside(ctx context.Context, task *asynq.Task, id, why string) error {
	queue, _ := asynq.GetQueueName(ctx)
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	err := p.bin.PutAside(once, quarantine.Entry{Queue: queue, Task: id, Type: task.Type(), Why: why, Raw: task.Payload()})
	if err != nil {
		p.limited.Warn("a task that stands for no request could not be put aside; it comes again", zap.Error(err))
		return &later{p.policy.pause()}
	}
	p.log.Warn("a task that stands for no request was put aside", zap.String("queue", queue), zap.String("task", id), zap.String("why", why))
	return nil
}

// undecodable says why a task stands for no turn, or "".
func undecodable(task *asynq.Task, err error) string {
	switch {
	case task.Type() != linktask.Type:
		return fmt.Sprintf("its type is %q, not %q", task.Type(), linktask.Type)
	case err != nil:
		return err.Error()
	}
	return ""
}

// early is of a turn whose pause is not over by Redis' clock: some worker's own
// is ahead. Soon, it comes again by itself; else its task ends, because that
// clock would hand it out again and again, and the sweep enqueues it when it is
// due.
func early(wait time.Duration) error {
	if wait > earlyMost {
		return nil
	}
	return &later{wait}
}

// newer leaves a turn to a worker of the version that wrote its record.
func (p *pipeline) newer(ref request.Ref) error {
	p.limited.Warn("a request was stored by a newer version, and waits for a worker of that version", zap.String("application_id", ref.ApplicationID))
	return &later{newerPause}
}

// poison ends a request that cannot be handled.
func (p *pipeline) poison(ctx context.Context, ref request.Ref, nonce, message string) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	state, err := p.bin.Poison(once, ref, nonce, message)
	switch {
	case err != nil:
		return p.failed("poison", ref, err)
	case state == "busy":
		return &later{busyDelay}
	}
	p.log.Error("a request that cannot be handled was put aside", zap.String("application_id", ref.ApplicationID), zap.String("status", string(state)))
	return nil
}

// panicked is what becomes of a turn whose handler panicked: it comes again, but
// not for ever. A call may have been sent since its mark.
func (p *pipeline) panicked(ctx context.Context, ref request.Ref) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	n, err := p.bin.Panicked(once, ref)
	if err != nil {
		return p.failed("panic", ref, err)
	}
	if n < mostPanics {
		return &later{p.policy.pause()}
	}
	return p.poison(ctx, ref, "", "the program failed each time that it handled the request")
}
