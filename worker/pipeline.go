package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// pipeline is the life of a request in a lane of this process:
//
//	take    a task of the queue, unless this process already handles its turn
//	admit   wait for the gate, then for the rate; the ledger then counts the attempt
//	call    send the one call of the attempt
//	record  write the link or the fault to the ledger, which also publishes an end
//	settle  end the task, run it again later, or admit the request again
//
// Each stage is in the file of its name.
type pipeline struct {
	turns      *turns
	admit      *admitter
	call       *caller
	record     *resultRecorder
	settle     *settler
	quarantine *quarantiner
	observe    *attemptObserver
	log        *zap.Logger
}

// busyDelay is the delay before the task of a turn that another handler has runs again.
const busyDelay = 5 * time.Second

// ProcessTask handles the turn that the task names. It returns nil if the task has done
// its work, whatever the outcome, and an [*asynqx.Later] if it must run again.
func (p *pipeline) ProcessTask(ctx context.Context, task *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	turn, err := request.ParseRef(id)
	switch {
	case task.Type() != linktask.Type:
		return p.quarantine.tasks.Put(ctx, task, fmt.Sprintf("its type is %q, not %q", task.Type(), linktask.Type))
	case err != nil:
		return p.quarantine.tasks.Put(ctx, task, err.Error())
	}
	return p.process(ctx, turn)
}

// process handles one turn. ctx ends when the queue has given the task to another process.
func (p *pipeline) process(ctx context.Context, turn request.Ref) error {
	return p.processUntil(ctx, turn, func() {})
}

// processUntil is [pipeline.process]. It calls called when the turn was admitted, before its
// call is sent.
func (p *pipeline) processUntil(ctx context.Context, turn request.Ref, called func()) (err error) {
	// Take.
	if !p.turns.take(turn) {
		return &asynqx.Later{Delay: busyDelay}
	}
	failpoint.Hit("taken")
	defer func() {
		if value := recover(); value != nil { // asynq would store its text, which may contain a secret
			p.log.Error("handler panicked", zap.String("application_id", turn.ApplicationID),
				zap.String("type", fmt.Sprintf("%T", value)), zap.StackSkip("stack", 1))
			err = p.quarantine.panicked(ctx, turn)
		}
		p.turns.release(turn)
	}()

	slot := &slot{limit: p.call.limit}
	defer slot.putBack()
	for renewed := false; ; {
		// Admit.
		taken := time.Now()
		answer, err := p.admit.admit(ctx, turn)
		if err != nil {
			return err
		}
		if answer.Verdict != attempt.Call {
			return p.settle.uncalled(ctx, turn, answer)
		}
		slot.held = true
		failpoint.Hit("admitted")
		called()
		attempted, span := p.observe.admitted(ctx, answer.Attempt, taken)

		// Call.
		result := p.call.send(attempted, answer)
		if result.fault == nil {
			slot.free(result)
		}

		// Record.
		outcome, err := p.record.result(attempted, result, renewed)
		slot.free(result) // only now: a fault may have closed the gate, so that no other call is sent
		p.observe.ended(span, result.fault)

		// Settle.
		again, err := p.settle.called(turn, outcome, err)
		if !again {
			return err
		}
		renewed = renewed || outcome.renewed
	}
}
