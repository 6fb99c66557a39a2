package worker

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// caller is the stage that sends calls.
type caller struct {
	upstream upstream
	limit    *limit
	observe  *attemptObserver
	log      *zap.Logger
}

// result is what a call returned: a link or a fault.
type result struct {
	attempt attempt.Attempt
	link    request.Link
	fault   *fault.Fault
	probe   bool
}

// send sends the one call of an attempt.
func (c *caller) send(ctx context.Context, answer attempt.Decision) result {
	r := result{attempt: answer.Attempt, probe: answer.Probe}
	ctx, span := c.observe.tracer.Start(ctx, "call", trace.SpanKindClient)
	defer span.End()
	begun := time.Now()
	// A call in flight is finished: interrupting it would make its outcome uncertain.
	r.link, r.fault = c.createLink(context.WithoutCancel(ctx), r.attempt)
	r.attempt.Took = time.Since(begun)
	span.Outcome(outcomeOf(r.fault))
	failpoint.Hit("called")
	return r
}

// createLink turns a panic into a fault, so that a request that causes one each time is
// not called for ever, and its outcome counts as uncertain.
func (c *caller) createLink(ctx context.Context, a attempt.Attempt) (link request.Link, f *fault.Fault) {
	defer func() {
		if value := recover(); value != nil {
			c.log.Error("call panicked", zap.String("application_id", a.ApplicationID),
				zap.String("type", fmt.Sprintf("%T", value)), zap.StackSkip("stack", 1))
			link, f = request.Link{}, &fault.Fault{Kind: fault.Unreadable, Detail: "the program failed during the call"}
		}
	}()
	return c.upstream.createLink(ctx, a)
}
