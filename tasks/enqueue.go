package tasks

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/tracing"
)

// concurrentDispatches is the number of tasks that EnqueueEach enqueues at a time.
const concurrentDispatches = 16

// Answer is the answer to one of several requests.
type Answer struct {
	// Link is the existing link. If Err refuses the request, Link is what was accepted
	// for the ID before, or zero.
	Link Link
	// Err is [ErrNotFound], or the reason why the request is not accepted.
	Err error
}

// Enqueue asks for a link and returns its state. It is idempotent: a repeat never
// creates a second link, and returns the state of the first. A repeat in the interactive
// lane moves a bulk request that still waits to that lane.
//
// Errors about the request are [*InvalidError], [*ConflictError], [*ForeignError],
// [*GapError] and [*UnreadableError]. A [*BacklogError] means "try again later". After
// any other error, the request may or may not have been accepted: repeat it.
func (c *Client) Enqueue(ctx context.Context, req Request) (Link, error) {
	if req.Lane == "" {
		req.Lane = Interactive
	}
	if err := req.check(c.destinations); err != nil {
		return Link{}, err
	}
	ctx, span := c.startAccept(ctx)
	defer span.End()
	span.Lane(string(req.Lane))
	link, err := c.enqueue(ctx, req)
	span.Failed(err, ReasonOf(err))
	return link, err
}

func (c *Client) enqueue(ctx context.Context, req Request) (Link, error) {
	results, err := c.acceptAll(ctx, c.single(ctx), nil, []Row{{Request: req}})
	if err != nil {
		return Link{}, err
	}
	if results[0].err != nil {
		return Link{}, results[0].err
	}
	return c.dispatch(ctx, results[0].record)
}

// startAccept starts the span in which requests are accepted.
func (c *Client) startAccept(ctx context.Context) (context.Context, tracing.Span) {
	return c.tracer.Start(ctx, "accept", trace.SpanKindProducer)
}

// single is the target of requests that are not rows of a batch, accepted in the span of ctx.
func (c *Client) single(ctx context.Context) target {
	return target{chunk: noChunk, by: c.caller.ID, trace: c.tracer.Stored(ctx)}
}

// EnqueueEach is [Client.Enqueue] for many requests, in far fewer round trips: it
// accepts 100 requests in one step. The answers are in the order of reqs. An error means
// that something other than a request failed: any of the requests may have been
// accepted, and all can be repeated.
func (c *Client) EnqueueEach(ctx context.Context, reqs []Request) ([]Answer, error) {
	ctx, span := c.startAccept(ctx)
	defer span.End()
	span.Requests(len(reqs))
	answers := make([]Answer, len(reqs))
	for from := 0; from < len(reqs); from += order.ChunkRows {
		to := min(from+order.ChunkRows, len(reqs))
		if err := c.enqueueEach(ctx, reqs[from:to], answers[from:to]); err != nil {
			span.Failed(err, "")
			return nil, err
		}
	}
	return answers, nil
}

func (c *Client) enqueueEach(ctx context.Context, reqs []Request, answers []Answer) error {
	var pending []int
	for i, req := range reqs {
		if answers[i].Err = req.check(c.destinations); answers[i].Err == nil {
			pending = append(pending, i)
		}
	}
	records := make([]*request.Record, len(reqs))
	for len(pending) > 0 {
		rows := make([]Row, len(pending))
		for n, i := range pending {
			rows[n].Request = reqs[i]
			if reqs[i].Lane == "" {
				rows[n].Request.Lane = Interactive
			}
		}
		all, err := c.acceptAll(ctx, c.single(ctx), nil, rows)
		if err != nil {
			return err
		}
		var retry []int
		for n, i := range pending {
			if a := all[n]; a.retry {
				retry = append(retry, i)
			} else {
				records[i], answers[i].Err = a.record, a.err
			}
		}
		pending = retry
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentDispatches)
	for i := range answers {
		if answers[i].Err != nil {
			continue
		}
		group.Go(func() (err error) {
			answers[i].Link, err = c.dispatch(groupCtx, records[i])
			return err
		})
	}
	return group.Wait()
}

// dispatch enqueues the task of a queued interactive request, and returns the Link of
// any request. The worker's feeder enqueues bulk requests.
func (c *Client) dispatch(ctx context.Context, r *request.Record) (Link, error) {
	if r.Lane == request.Interactive && r.State == request.Queued {
		if err := linktask.Enqueue(ctx, c.queue, c.keys.Account, r.Lane, r.Ref()); err != nil {
			return Link{}, err
		}
	}
	return c.link(ctx, r)
}

// check is [Request.Validate] plus the checks that depend on the client's settings.
func (r Request) check(d destinations) error { return invalid(r.allProblems(d)) }

func (r Request) allProblems(d destinations) []Problem {
	problems := r.problems()
	for _, p := range d.problems(&r) {
		if !slices.ContainsFunc(problems, func(q Problem) bool { return q.Key == p.Key }) {
			problems = append(problems, p)
		}
	}
	return problems
}
