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
)

// How many uploads, and how many exports, one process has at a time.
const (
	transfersOfKey = 4
	transfersOfAll = 32
)

// transferWithin is how long one upload or export may take altogether, however well
// it moves.
const transferWithin = time.Hour

// recheckPause is between two looks at what a long call depends on: its key, and Redis.
// What a process knows of a key is 2 s old at most.
const recheckPause = time.Second

// transfers counts the uploads, or exports, that are under way.
type transfers struct {
	what         string
	perKey, most int

	mu    sync.Mutex
	all   int
	ofKey map[string]int // by the key's id, of those that have any
}

func newTransfers(what string) *transfers {
	return &transfers{what: what, perKey: transfersOfKey, most: transfersOfAll, ofKey: map[string]int{}}
}

// begin says why there cannot be one more. [transfers.end] follows where there can.
func (t *transfers) begin(k Key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var p *problem
	switch {
	case t.ofKey[k.ID] >= t.perKey:
		p = newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests",
			fmt.Sprintf("the key %q may have %d %s at a time; wait until one is over", k.Name, t.perKey, t.what))
	case t.all >= t.most:
		p = newProblem(http.StatusServiceUnavailable, unavailableReason, "It cannot be done now",
			fmt.Sprintf("this service has %d %s under way, and takes no more at a time; ask again", t.most, t.what))
	default:
		t.all++
		t.ofKey[k.ID]++
		return nil
	}
	p.retryAfter = 5 * time.Second
	return p
}

func (t *transfers) end(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.ofKey[k.ID]--; t.ofKey[k.ID] == 0 {
		delete(t.ofKey, k.ID)
	}
}

// underway is the context of a call that goes on for long: it ends when Redis was
// silent for as long as an answer may take, and when the call's key is revoked.
// Whoever calls it stops it.
func (a *API) underway(c *call) (context.Context, context.CancelCauseFunc) {
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
			if err := cmp.Or(a.reachable(ctx), a.admitted(ctx, c)); err != nil {
				stop(err)
				return
			}
		}
	}()
	return ctx, stop
}

// transfer is [API.underway] for a body that is streamed, which has to be over in
// time.
func (a *API) transfer(c *call) (context.Context, context.CancelCauseFunc) {
	ctx, stop := a.underway(c)
	limit := time.AfterFunc(a.transferWithin, func() { stop(tooLong(a.transferWithin)) })
	return ctx, func(cause error) {
		limit.Stop()
		stop(cause)
	}
}

// reachable fails where Redis says nothing.
func (a *API) reachable(ctx context.Context) error {
	looking, cancel := context.WithTimeout(ctx, a.within)
	defer cancel()
	if err := a.Redis.Ping(looking).Err(); err != nil && errors.Is(looking.Err(), context.DeadlineExceeded) {
		return err
	}
	return nil
}

// admitted fails where the call's key is not valid any more.
func (a *API) admitted(ctx context.Context, c *call) error {
	looking, cancel := context.WithTimeout(ctx, a.within)
	defer cancel()
	if _, err := a.Keys.Verify(looking, c.presented); errors.Is(err, ErrUnknownKey) {
		a.Log.Warn("API key revoked during a request, which is broken off", zap.String("route", c.r.Pattern),
			zap.String("request_id", c.id), zap.String("key", c.key.Name))
		return unauthorized("the API key was revoked while this went on")
	}
	return nil
}

// pace is what is left of the patience with one end of a connection: it runs out
// while nothing moves, and comes back with every byte.
type pace struct{ left time.Duration }

// moved takes what it took off, and adds what it brought.
func (p *pace) moved(n int, took time.Duration) {
	p.left = min(patience, p.left-took+time.Duration(n)*time.Second/leastPace)
}

// pacedReader reads a body that is streamed, as long as it moves and ctx has not
// ended. It waits for the client only: what its caller does in between costs nothing.
type pacedReader struct {
	io.Reader
	ctx     context.Context //nolint:containedctx // of the body's own call
	control *http.ResponseController
	pace    pace
	err     error // the first, but for the end
}

func (r *pacedReader) Read(p []byte) (int, error) {
	began := time.Now()
	stop := interrupting(r.ctx, r.control.SetReadDeadline, began.Add(r.pace.left))
	defer stop()
	if r.ctx.Err() != nil {
		return 0, r.failed(context.Cause(r.ctx))
	}
	n, err := r.Reader.Read(p)
	r.pace.moved(n, time.Since(began))
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	// net/http ends the call's own context on any failure to read.
	if cause := context.Cause(r.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return n, r.failed(cause)
	}
	return n, r.failed(notRead(err))
}

func (r *pacedReader) failed(err error) error {
	if r.err == nil {
		r.err = err
	}
	return err
}

// pacedWriter is the same for an answer.
type pacedWriter struct {
	io.Writer
	ctx     context.Context //nolint:containedctx // of the answer's own call
	control *http.ResponseController
	pace    pace
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	began := time.Now()
	stop := interrupting(w.ctx, w.control.SetWriteDeadline, began.Add(w.pace.left))
	defer stop()
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.Writer.Write(p)
	w.pace.moved(n, time.Since(began))
	return n, err
}

// interrupting sets a deadline of a connection, and brings it forward when ctx ends.
func interrupting(ctx context.Context, set func(time.Time) error, deadline time.Time) (stop func() bool) {
	_ = set(deadline) // where there is none, there is a test
	return context.AfterFunc(ctx, func() { _ = set(time.Unix(1, 0)) })
}
