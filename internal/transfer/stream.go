package transfer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// MaxStall is how long the connection of a transfer may stall. On average it must move
	// at minPace. An upload starts with firstStall only, because it blocks other uploads to
	// its batch.
	MaxStall   = 30 * time.Second
	firstStall = 5 * time.Second
	minPace    = 1 << 10 // bytes per second
)

// pace is the remaining time that one direction of a connection may stall. It shrinks
// while nothing moves and grows with every byte.
type pace struct{ left time.Duration }

// moved subtracts the time that an operation took, and adds time for its bytes.
func (p *pace) moved(n int, took time.Duration) {
	p.left = min(MaxStall, p.left-took+time.Duration(n)*time.Second/minPace)
}

// Reader reads a streamed body as long as its pace suffices and its context has not ended.
// Only the time spent waiting for the client counts. It is for one goroutine.
type Reader struct {
	body    io.Reader
	ctx     context.Context //nolint:containedctx // the request that owns the body
	control *http.ResponseController
	pace    pace
	err     error
}

// NewReader returns a reader of the body of a request. The control is that of the request's
// response.
func NewReader(ctx context.Context, body io.Reader, control *http.ResponseController) *Reader {
	return &Reader{body: body, ctx: ctx, control: control, pace: pace{firstStall}}
}

// ReadError is an error of the client's connection: it ended, stalled, or sent too much.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read the body: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ReadError) Unwrap() error { return e.Err }

// Read implements [io.Reader]. Its error is the cause of the context's end, a [*ReadError],
// or [io.EOF].
func (r *Reader) Read(p []byte) (int, error) {
	began := time.Now()
	stop := setDeadline(r.ctx, r.control.SetReadDeadline, began.Add(r.pace.left))
	defer stop()
	if r.ctx.Err() != nil {
		return 0, r.failed(context.Cause(r.ctx))
	}
	n, err := r.body.Read(p)
	r.pace.moved(n, time.Since(began))
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	// net/http cancels the context of the request after any read error.
	if cause := context.Cause(r.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return n, r.failed(cause)
	}
	return n, r.failed(&ReadError{err})
}

func (r *Reader) failed(err error) error {
	if r.err == nil {
		r.err = err
	}
	return err
}

// Err returns the first error of [Reader.Read] other than [io.EOF].
func (r *Reader) Err() error { return r.err }

// Writer is the counterpart of [Reader] for responses.
type Writer struct {
	body    io.Writer
	ctx     context.Context //nolint:containedctx // the request that owns the response
	control *http.ResponseController
	pace    pace
}

// NewWriter returns a writer of a response.
func NewWriter(ctx context.Context, body io.Writer, control *http.ResponseController) *Writer {
	return &Writer{body, ctx, control, pace{MaxStall}}
}

// Write implements [io.Writer].
func (w *Writer) Write(p []byte) (int, error) {
	began := time.Now()
	stop := setDeadline(w.ctx, w.control.SetWriteDeadline, began.Add(w.pace.left))
	defer stop()
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.body.Write(p)
	w.pace.moved(n, time.Since(began))
	return n, err
}

// setDeadline sets a deadline of a connection, and moves it to now when ctx ends.
func setDeadline(ctx context.Context, set func(time.Time) error, deadline time.Time) (stop func() bool) {
	_ = set(deadline) // test recorders have no deadline
	return context.AfterFunc(ctx, func() { _ = set(time.Unix(1, 0)) })
}
