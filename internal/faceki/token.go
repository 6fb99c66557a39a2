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
	// spacing is between two requests for a token. FaceKi bills them, so neither
	// a refused token nor refused credentials may make a storm of them.
	spacing = 30 * time.Second
	// recheck is how long a process uses a token without a look at whether
	// another one has found it refused.
	recheck = time.Second
	// While another process asks, its answer is looked for that often.
	firstPoll = 25 * time.Millisecond
	lastPoll  = 400 * time.Millisecond
	// storing bounds one exchange with the store.
	storing = 2 * time.Second
)

// Store keeps the one token of an account's credentials for all who share it,
// and gives one of them at a time the turn to ask for another. Implementations
// are safe for concurrent use; an error means that the store is out of reach.
type Store interface {
	// Claim tells what is known. Where that is nothing, holder has the turn,
	// for at most lease, or another one has it and the Claim is empty.
	Claim(ctx context.Context, holder string, lease time.Duration) (Claim, error)
	// Land ends holder's turn with a token, a fault that stands, or neither.
	Land(ctx context.Context, holder string, got Claim) error
	// Drop gives up a token that was refused, where it is the one that is kept.
	// Another one is due spacing after it was asked for. A token that replaces a
	// refused one, and is refused within spacing before any call with it was
	// accepted, stays: kept.
	Drop(ctx context.Context, token Secret, spacing time.Duration) (kept bool, err error)
	// Accepted says that FaceKi accepted a call with the token.
	Accepted(ctx context.Context, token Secret) error
}

// Claim is what is known of an account's token: one of its fields, or nothing.
type Claim struct {
	Token Secret
	Fault *fault.Fault  // of the last request for a token
	Left  time.Duration // for how long the token or the fault stands
	Turn  bool          // the caller is to ask
	Due   time.Duration // none is asked for before: the last one was refused
}

// tokens is a process' access to the account's token. It is asked for again
// only when it has expired or was refused. A request for it that FaceKi got and
// did not grant is repeated after spacing; until then its fault stands.
type tokens struct {
	now     func() time.Time // only differences count: a clock may be off
	store   Store
	holder  string
	lease   time.Duration // longer than a request for a token may take
	spacing time.Duration
	begin   func() (context.Context, context.CancelFunc) // what outlives its caller
	ask     func(context.Context) (Secret, time.Duration, *fault.Fault)
	one     singleflight.Group
	flights sync.Mutex // held by the one that is under way

	mu       sync.Mutex
	value    Secret
	until    time.Time // given up then
	lookedAt time.Time // when the store last gave it
	accepted Secret    // the last that FaceKi accepted, as the store knows
	landed   bool      // the store knows it
}

func newTokens(store Store, now func() time.Time, timeout time.Duration) *tokens {
	if store == nil {
		store = &alone{now: now}
	}
	return &tokens{now: now, store: store, holder: uuid.NewString(), lease: timeout + time.Second, spacing: spacing}
}

// landing is what a flight brought: a token, or for how long none is asked for.
type landing struct {
	token Secret
	due   time.Duration
}

// get gives a token that has not expired and that the store gave within the
// given time. However many callers wait, one flight is under way; it goes on
// when they give up. Where due is not 0, no token is asked for before.
func (t *tokens) get(ctx context.Context, within time.Duration) (value Secret, due time.Duration, f *fault.Fault) {
	if value := t.held(within); value != "" {
		return value, 0, nil
	}
	select {
	case r := <-t.one.DoChan("", func() (any, error) {
		// Another flight may have landed since the look above.
		if value := t.held(within); value != "" {
			return landing{token: value}, nil
		}
		t.flights.Lock() // which settle waits for
		defer t.flights.Unlock()
		ctx, cancel := t.begin()
		defer cancel()
		got, f := t.fly(ctx)
		return got, asError(f)
	}):
		got, _ := r.Val.(landing)
		if errors.As(r.Err, &f) {
			return "", 0, repeated(f, f.RetryAfter)
		}
		return got.token, got.due, nil
	case <-ctx.Done():
		return "", 0, gaveUp(ctx, &fault.Fault{Kind: fault.TokenUnavailable, Detail: "no answer in time"})
	}
}

// held gives the token that is known without a look at the store, or "".
func (t *tokens) held(within time.Duration) Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if !now.Before(t.until) || now.Sub(t.lookedAt) >= within {
		return ""
	}
	return t.value
}

// fly looks at the store until it gives something, and asks FaceKi where it is
// this process' turn.
func (t *tokens) fly(ctx context.Context) (landing, *fault.Fault) {
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		begun := t.now()
		known, err := t.claim(ctx)
		switch {
		case err != nil:
			if value := t.held(maxLife); value != "" {
				return landing{token: value}, nil // as good as before
			}
			return landing{}, gaveUp(ctx, &fault.Fault{Kind: fault.TokenUnavailable, Detail: "Redis, which keeps it, gives none"})
		case known.Token != "":
			t.hold(known.Token, begun.Add(known.Left), true)
			return landing{token: known.Token}, nil
		case known.Fault != nil:
			return landing{}, known.Fault
		case known.Turn:
			value, f := t.renew(ctx)
			return landing{token: value}, f
		case known.Due > 0:
			return landing{due: known.Due}, nil
		}
		select {
		case <-time.After(poll/2 + rand.N(poll)):
		case <-ctx.Done():
			return landing{}, gaveUp(ctx, &fault.Fault{Kind: fault.TokenUnavailable, Detail: "another process did not get one in time"})
		}
	}
}

func (t *tokens) hold(value Secret, until time.Time, landed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value, t.until, t.lookedAt, t.landed = value, until, t.now(), landed
}

// renew takes this process' turn.
func (t *tokens) renew(ctx context.Context) (Secret, *fault.Fault) {
	if value, until := t.ashore(); value != "" {
		t.hold(value, until, t.land(ctx, Claim{Token: value, Left: until.Sub(t.now())}))
		return value, nil
	}
	begun := t.now()
	value, life, f := t.ask(ctx)
	took := t.now().Sub(begun)
	switch {
	case f == nil:
		t.hold(value, begun.Add(life), t.land(ctx, Claim{Token: value, Left: life - took}))
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		t.land(ctx, Claim{}) // we broke it off, which says nothing
		f = &fault.Fault{Kind: fault.Interrupted}
	case neverSent(f):
		t.land(ctx, Claim{Fault: f})
	default:
		t.land(ctx, Claim{Fault: f, Left: max(t.spacing, f.RetryAfter) - took})
	}
	return value, f
}

// ashore gives a token that the store could not be told of.
func (t *tokens) ashore() (Secret, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.landed || !t.now().Before(t.until) {
		return "", time.Time{}
	}
	return t.value, t.until
}

func (t *tokens) claim(ctx context.Context) (Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	return t.store.Claim(ctx, t.holder, t.lease)
}

// land tells the store, also while the process ends: the others wait for it.
func (t *tokens) land(ctx context.Context, got Claim) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storing)
	defer cancel()
	return t.store.Land(ctx, t.holder, got) == nil
}

// settle waits until a flight that was broken off has told the store so.
func (t *tokens) settle() {
	t.flights.Lock()
	defer t.flights.Unlock()
}

// refused says that FaceKi refused the token, and drops it unless it has been
// dropped or replaced already. It says whether a newer one may help: where a fresh
// token is refused as the one before was, tokens are not at fault. That one is
// kept, so that the account's recovery is noticed without asking for another.
func (t *tokens) refused(ctx context.Context, value Secret) (renewable bool) {
	t.mu.Lock()
	current := t.value == value
	t.mu.Unlock()
	if !current {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storing)
	defer cancel()
	// Where the store is out of reach the next call finds out.
	if kept, err := t.store.Drop(ctx, value, t.spacing); kept && err == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value == value {
		t.value, t.until = "", time.Time{}
	}
	return true
}

// works says that FaceKi accepted a call with the token; the store is told once.
func (t *tokens) works(ctx context.Context, value Secret) {
	t.mu.Lock()
	known := t.accepted == value
	t.accepted = value
	t.mu.Unlock()
	if known {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storing)
	defer cancel()
	_ = t.store.Accepted(ctx, value) // without it, a refusal soon after stops more than it had to
}

// neverSent says that the request cost nothing and may be repeated at once.
func neverSent(f *fault.Fault) bool {
	return f.Kind == fault.NotSent || f.Kind == fault.ConnectTimeout || f.Kind == fault.Interrupted
}

// gaveUp is the fault of what was waited for in vain: the one given where time
// ran out, and Interrupted where it was called off or came too late to be sent.
func gaveUp(ctx context.Context, late *fault.Fault) *fault.Fault {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(context.Cause(ctx), errTooLate) {
		return late
	}
	return &fault.Fault{Kind: fault.Interrupted}
}

// repeated gives a fault to one more caller, who may change it.
func repeated(f *fault.Fault, retryAfter time.Duration) *fault.Fault {
	again := *f
	again.RetryAfter = max(retryAfter, 0)
	return &again
}

// asError keeps a nil fault a nil error.
func asError(f *fault.Fault) error {
	if f == nil {
		return nil
	}
	return f
}
