package faceki

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/kyclink/kyclink/internal/fault"
)

const (
	// spacing is the time between two requests for a token. FaceKi bills them, so refused
	// tokens or credentials must not cause many requests.
	spacing = 30 * time.Second
	// recheck is how long a process uses a token without checking whether another process
	// has found it refused.
	recheck = time.Second
	// The bounds of the pause between two reads while another process requests a token.
	firstPoll = 25 * time.Millisecond
	lastPoll  = 400 * time.Millisecond
	// storeTimeout limits one store operation.
	storeTimeout = 2 * time.Second
)

// Store shares the access token of an account between processes, and lets one of them
// at a time request a new one. Implementations are safe for concurrent use. An error
// means that the store cannot be reached.
type Store interface {
	// Acquire returns the stored state. If nothing is stored, it grants holder a lease to
	// request a token, or returns the zero state if another process has the lease.
	Acquire(ctx context.Context, holder string, lease time.Duration) (TokenState, error)
	// Release ends the lease of holder and stores a token, a fault, or neither.
	Release(ctx context.Context, holder string, got TokenState) error
	// Discard discards a refused token if it is the stored one. The next one may be
	// requested spacing after the request for this one. A token that replaced a refused
	// one, and is refused within spacing before any call with it was accepted, is kept.
	Discard(ctx context.Context, token Secret, spacing time.Duration) (kept bool, err error)
	// MarkAccepted records that FaceKi accepted a call with the token.
	MarkAccepted(ctx context.Context, token Secret) error
}

// TokenState is the state of an account's token: one of a token, a fault, a lease and a
// pause, or none of these.
type TokenState struct {
	Token     Secret
	Fault     *fault.Fault  // of the last request for a token
	ValidFor  time.Duration // of the token or the fault
	Refresh   bool          // the caller must request a token
	NotBefore time.Duration // until the next request, because the last token was refused
}

// tokens provides the account's token to a process. It requests a new one only when the
// token has expired or was refused. If FaceKi refuses a request for a token, the fault is
// reused for spacing before another request.
type tokens struct {
	now          func() time.Time // only differences are used, since the clock may be wrong
	store        Store
	holder       string
	lease        time.Duration // longer than a request for a token may take
	spacing      time.Duration
	newContext   func() (context.Context, context.CancelFunc) // a context that outlives the caller
	requestToken func(context.Context) (Secret, time.Duration, *fault.Fault)
	flight       singleflight.Group
	refreshing   sync.Mutex // held during a refresh

	mu        sync.Mutex
	value     Secret
	until     time.Time // of value
	checkedAt time.Time // when the store last returned it
	accepted  Secret    // the last token that was marked as accepted
	stored    bool      // value is in the store
}

func newTokens(store Store, now func() time.Time, timeout time.Duration) *tokens {
	if store == nil {
		store = &localStore{now: now}
	}
	return &tokens{now: now, store: store, holder: uuid.NewString(), lease: timeout + time.Second, spacing: spacing}
}

// refreshed is the result of a refresh: a token, or the time until the next request.
type refreshed struct {
	token Secret
	due   time.Duration
}

// get returns a token that has not expired and that the store returned within the given
// time. Concurrent callers share one refresh, which continues when they give up. If due
// is not 0, it is the time until the next token may be requested.
func (t *tokens) get(ctx context.Context, within time.Duration) (value Secret, due time.Duration, f *fault.Fault) {
	if value := t.cached(within); value != "" {
		return value, 0, nil
	}
	select {
	case r := <-t.flight.DoChan("", func() (any, error) {
		// Another refresh may have stored a token since the check above.
		if value := t.cached(within); value != "" {
			return refreshed{token: value}, nil
		}
		t.refreshing.Lock() // waitForRefresh waits for it
		defer t.refreshing.Unlock()
		ctx, cancel := t.newContext()
		defer cancel()
		got, f := t.refresh(ctx)
		return got, asError(f)
	}):
		got, _ := r.Val.(refreshed)
		if errors.As(r.Err, &f) {
			return "", 0, copyFault(f, f.RetryAfter)
		}
		return got.token, got.due, nil
	case <-ctx.Done():
		return "", 0, waitFault(ctx, &fault.Fault{Kind: fault.TokenUnavailable, Detail: "no answer in time"})
	}
}

// cached returns the token that can be used without reading the store, or "".
func (t *tokens) cached(within time.Duration) Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if !now.Before(t.until) || now.Sub(t.checkedAt) >= within {
		return ""
	}
	return t.value
}

// refresh reads the store until it has a result, and requests a token from FaceKi if this
// process gets the lease.
func (t *tokens) refresh(ctx context.Context) (refreshed, *fault.Fault) {
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		begun := t.now()
		known, err := t.claim(ctx)
		switch {
		case err != nil:
			if value := t.cached(maxLifetime); value != "" {
				return refreshed{token: value}, nil // the store cannot be reached; use the known token
			}
			return refreshed{}, waitFault(ctx, &fault.Fault{Kind: fault.TokenUnavailable, Detail: "Redis, which stores it, cannot be reached"})
		case known.Token != "":
			t.cache(known.Token, begun.Add(known.ValidFor), true)
			return refreshed{token: known.Token}, nil
		case known.Fault != nil:
			return refreshed{}, known.Fault
		case known.Refresh:
			value, f := t.request(ctx)
			return refreshed{token: value}, f
		case known.NotBefore > 0:
			return refreshed{due: known.NotBefore}, nil
		}
		select {
		case <-time.After(poll/2 + rand.N(poll)):
		case <-ctx.Done():
			return refreshed{}, waitFault(ctx, &fault.Fault{Kind: fault.TokenUnavailable, Detail: "another process did not obtain it in time"})
		}
	}
}

func (t *tokens) cache(value Secret, until time.Time, stored bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value, t.until, t.checkedAt, t.stored = value, until, t.now(), stored
}

// request requests a token and stores the result. If an earlier token could not be stored,
// it stores that one instead.
func (t *tokens) request(ctx context.Context) (Secret, *fault.Fault) {
	if value, until := t.unstored(); value != "" {
		t.cache(value, until, t.release(ctx, TokenState{Token: value, ValidFor: until.Sub(t.now())}))
		return value, nil
	}
	begun := t.now()
	value, life, f := t.requestToken(ctx)
	took := t.now().Sub(begun)
	switch {
	case f == nil:
		t.cache(value, begun.Add(life), t.release(ctx, TokenState{Token: value, ValidFor: life - took}))
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		t.release(ctx, TokenState{}) // this process aborted the request
		f = &fault.Fault{Kind: fault.Interrupted}
	case neverSent(f):
		t.release(ctx, TokenState{Fault: f})
	default:
		t.release(ctx, TokenState{Fault: f, ValidFor: max(t.spacing, f.RetryAfter) - took})
	}
	return value, f
}

// unstored returns a valid token that could not be stored.
func (t *tokens) unstored() (Secret, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stored || !t.now().Before(t.until) {
		return "", time.Time{}
	}
	return t.value, t.until
}

func (t *tokens) claim(ctx context.Context) (TokenState, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return t.store.Acquire(ctx, t.holder, t.lease)
}

// release stores the result, even while the process ends, because others wait for it.
func (t *tokens) release(ctx context.Context, got TokenState) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return t.store.Release(ctx, t.holder, got) == nil
}

// waitForRefresh waits until an aborted refresh has released its lease.
func (t *tokens) waitForRefresh() {
	t.refreshing.Lock()
	defer t.refreshing.Unlock()
}

// refused discards a token that FaceKi refused, unless it has been replaced already. It
// reports whether a new token may help. If a new token is refused like the one before,
// the account is at fault: the token is kept, so that the account's recovery is noticed
// without another request for a token.
func (t *tokens) refused(ctx context.Context, value Secret) (renewable bool) {
	t.mu.Lock()
	current := t.value == value
	t.mu.Unlock()
	if !current {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	// If the store cannot be reached, the next call finds out.
	if kept, err := t.store.Discard(ctx, value, t.spacing); kept && err == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value == value {
		t.value, t.until = "", time.Time{}
	}
	return true
}

// markAccepted records that FaceKi accepted a call with the token, once per token.
func (t *tokens) markAccepted(ctx context.Context, value Secret) {
	t.mu.Lock()
	known := t.accepted == value
	t.accepted = value
	t.mu.Unlock()
	if known {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_ = t.store.MarkAccepted(ctx, value) // if this fails, a refusal soon after may pause more than necessary
}

// neverSent reports whether a request cost nothing and may be repeated at once.
func neverSent(f *fault.Fault) bool {
	return f.Kind == fault.NotSent || f.Kind == fault.ConnectTimeout || f.Kind == fault.Interrupted
}

// waitFault returns the fault of a wait that ended without a result: onTimeout if it timed
// out, or Interrupted if the wait was cancelled or the send deadline passed.
func waitFault(ctx context.Context, onTimeout *fault.Fault) *fault.Fault {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(context.Cause(ctx), errTooLate) {
		return onTimeout
	}
	return &fault.Fault{Kind: fault.Interrupted}
}

// copyFault returns a copy for another caller, who may change it.
func copyFault(f *fault.Fault, retryAfter time.Duration) *fault.Fault {
	c := *f
	c.RetryAfter = max(retryAfter, 0)
	return &c
}

// asError converts a nil fault to a nil error.
func asError(f *fault.Fault) error {
	if f == nil {
		return nil
	}
	return f
}
