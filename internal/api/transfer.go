package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/transfer"
)

// recheckPause is the time between two checks that the key of a long call is valid and that
// Redis answers. Keys are cached for at most 2 s.
const recheckPause = time.Second

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

// bodyReader returns a reader of a streamed body of at most MaxBody bytes.
func (a *API) bodyReader(ctx context.Context, c *call) *transfer.Reader {
	return transfer.NewReader(ctx, http.MaxBytesReader(c.ResponseWriter, c.r.Body, a.MaxBody), c.control)
}

// transferError returns the error of an upload: that of its body, if it has one, or err.
func transferError(body *transfer.Reader, err error) error {
	if failed := body.Err(); failed != nil {
		err = failed
	}
	if failed, ok := errors.AsType[*transfer.ReadError](err); ok {
		err = bodyError(failed.Err)
	}
	return inputError(err)
}

// busy is the response to a transfer beyond the limits.
func busy(e *transfer.BusyError) *problem {
	p := newProblem(http.StatusServiceUnavailable, unavailableReason, "Service unavailable", e.Error())
	if e.Key != "" {
		p = newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests", e.Error())
	}
	p.retryAfter = 5 * time.Second
	return p
}
