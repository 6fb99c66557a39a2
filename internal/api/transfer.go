package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/apikey"
)

// The number of uploads, and of exports, that one process handles at a time.
const (
	maxTransfersPerKey = 4
	maxTransfers       = 32
)

// transferTimeout limits the total time of an upload or export.
const transferTimeout = time.Hour

// recheckPause is the time between two checks that the key of a long call is valid and that
// Redis answers. Keys are cached for at most 2 s.
const recheckPause = time.Second

// transfers counts the uploads, or the exports, in progress.
type transfers struct {
	what          string
	perKey, total int // limits

	mu    sync.Mutex
	count int
	byKey map[string]int // by key ID; only keys that have any
}

func newTransfers(what string) *transfers {
	return &transfers{what: what, perKey: maxTransfersPerKey, total: maxTransfers, byKey: map[string]int{}}
}

// begin starts a transfer, or returns why it is refused. Call [transfers.end] at its end.
func (t *transfers) begin(k apikey.Key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var p *problem
	switch {
	case t.byKey[k.ID] >= t.perKey:
		p = newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests",
			fmt.Sprintf("key %q may have %d %s at a time; wait until one has finished", k.Name, t.perKey, t.what))
	case t.count >= t.total:
		p = newProblem(http.StatusServiceUnavailable, unavailableReason, "Service unavailable",
			fmt.Sprintf("this service already handles %d %s; try again later", t.total, t.what))
	default:
		t.count++
		t.byKey[k.ID]++
		return nil
	}
	p.retryAfter = 5 * time.Second
	return p
}

func (t *transfers) end(k apikey.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
	if t.byKey[k.ID]--; t.byKey[k.ID] == 0 {
		delete(t.byKey, k.ID)
	}
}

// longCall returns the context of a long call. It ends when Redis does not answer within
// the timeout, or when the key of the call is revoked. The caller must call the returned
// function.
func (a *API) longCall(c *call) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(c.r.Context())
	go func() {
		tick := time.NewTicker(recheckPause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := cmp.Or(a.checkRedis(ctx), a.checkKey(ctx, c)); err != nil {
				stop(err)
				return
			}
		}
	}()
	return ctx, stop
}

// transfer is [API.longCall] with a time limit, for a streamed body.
func (a *API) transfer(c *call) (context.Context, context.CancelCauseFunc) {
	ctx, stop := a.longCall(c)
	limit := time.AfterFunc(a.transferTimeout, func() { stop(tooLong(a.transferTimeout)) })
	return ctx, func(cause error) {
		limit.Stop()
		stop(cause)
	}
}

// checkRedis fails if Redis does not answer.
func (a *API) checkRedis(ctx context.Context) error {
	checking, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := a.Redis.Ping(checking).Err(); err != nil && errors.Is(checking.Err(), context.DeadlineExceeded) {
		return err
	}
	return nil
}

// checkKey fails if the key of the call has been revoked.
func (a *API) checkKey(ctx context.Context, c *call) error {
	checking, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if _, err := a.Keys.Verify(checking, c.presented); errors.Is(err, apikey.ErrUnknown) {
		a.Log.Warn("API key revoked during a request; aborting it", zap.String("route", c.r.Pattern),
			zap.String("request_id", c.id), zap.String("key", c.key.Name))
		return unauthorized("the API key was revoked during the request")
	}
	return nil
}

// pace is the remaining time that one direction of a connection may stall. It shrinks
// while nothing moves and grows with every byte.
type pace struct{ left time.Duration }

// moved subtracts the time that an operation took, and adds time for its bytes.
func (p *pace) moved(n int, took time.Duration) {
	p.left = min(maxStall, p.left-took+time.Duration(n)*time.Second/minPace)
}

// pacedReader reads a streamed body as long as its pace suffices and ctx has not ended.
// Only the time spent waiting for the client counts.
type pacedReader struct {
	io.Reader
	ctx     context.Context //nolint:containedctx // the call that owns the body
	control *http.ResponseController
	pace    pace
	err     error // the first error other than io.EOF
}

func (r *pacedReader) Read(p []byte) (int, error) {
	began := time.Now()
	stop := setDeadline(r.ctx, r.control.SetReadDeadline, began.Add(r.pace.left))
	defer stop()
	if r.ctx.Err() != nil {
		return 0, r.failed(context.Cause(r.ctx))
	}
	n, err := r.Reader.Read(p)
	r.pace.moved(n, time.Since(began))
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	// net/http cancels the context of the call after any read error.
	if cause := context.Cause(r.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return n, r.failed(cause)
	}
	return n, r.failed(bodyError(err))
}

func (r *pacedReader) failed(err error) error {
	if r.err == nil {
		r.err = err
	}
	return err
}

// pacedWriter is the counterpart of [pacedReader] for responses.
type pacedWriter struct {
	io.Writer
	ctx     context.Context //nolint:containedctx // the call that owns the response
	control *http.ResponseController
	pace    pace
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	began := time.Now()
	stop := setDeadline(w.ctx, w.control.SetWriteDeadline, began.Add(w.pace.left))
	defer stop()
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.Writer.Write(p)
	w.pace.moved(n, time.Since(began))
	return n, err
}

// setDeadline sets a deadline of a connection, and moves it to now when ctx ends.
func setDeadline(ctx context.Context, set func(time.Time) error, deadline time.Time) (stop func() bool) {
	_ = set(deadline) // test recorders have no deadline
	return context.AfterFunc(ctx, func() { _ = set(time.Unix(1, 0)) })
}
