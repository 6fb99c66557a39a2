package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/transfer"
)

// recheckInterval is how often a transfer checks that its API key was not revoked.
const recheckInterval = time.Second

var errRevoked = &pageError{http.StatusUnauthorized, "Signed out", "Your API key was revoked meanwhile, so that the transfer was ended."}

// transferring handles uploads and downloads, which have neither the time limit of a page
// nor the size limit of its form.
func (c *Console) transferring(scope apikey.Scope, limits *transfer.Limits, handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{w: w, r: r}
		ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
		defer cancel()
		err := c.admit(ctx, v, scope, func(context.Context, *visit) error {
			if err := limits.Begin(v.session.key); err != nil {
				return err
			}
			defer limits.End(v.session.key)
			ctx, stop := c.transfer(r.Context(), v)
			defer stop(nil)
			return handle(ctx, v)
		})
		if busy, ok := errors.AsType[*transfer.BusyError](err); ok {
			err = &pageError{http.StatusTooManyRequests, "Too many at a time", "Nothing was changed: " + busy.Error() + "."}
		}
		if shown, ok := errors.AsType[*pageError](err); ok {
			// Also if the context has ended: a body that does not arrive completely ends it.
			err = c.show(v, shown.Status, "error", shown.Title, shown)
		}
		if err != nil {
			c.fail(v, err)
		}
	}
}

// transfer returns the context of a transfer. It ends with its parent, after the time limit,
// and when the API key is revoked. The caller must call the returned function.
func (c *Console) transfer(parent context.Context, v *visit) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(parent)
	limited, cancel := context.WithTimeoutCause(ctx, transfer.Timeout,
		&pageError{http.StatusRequestTimeout, "Not finished in time", "The transfer did not finish within " + transfer.Timeout.String() + "."})
	go func() {
		defer cancel()
		tick := time.NewTicker(recheckInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-limited.Done():
				return
			}
			if _, err := c.Keys.Find(limited, v.session.key.ID); errors.Is(err, apikey.ErrUnknown) {
				stop(errRevoked)
				return
			}
		}
	}()
	return limited, stop
}
