package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/record"
)

// Mark makes known that the turn ref is about to be called, with d where the
// request gives nothing. earlier is what this process knows of a mark of its
// own that it finds. The attempt may be called only where the verdict is
// [record.Call]; it fails with [*UpstreamError] where the account's links are
// of the other kind.
func (l *Ledger) Mark(ctx context.Context, ref record.Ref, d record.Defaults, earlier record.Earlier) (record.Verdict, record.Attempt, error) {
	frozen, err := json.Marshal(d)
	if err != nil {
		return "", record.Attempt{}, fmt.Errorf("encode the defaults: %w", err)
	}
	reply, err := l.mark.Run(ctx, l.rdb, []string{l.keys.Tag()},
		ref.ApplicationID, ref.Generation, ref.Run, ref.Turn, l.process.Load(), l.upstream, frozen,
		l.unbroken().Milliseconds(), l.cfg.DeadAfter.Milliseconds(), string(earlier)).StringSlice()
	if err != nil {
		return "", record.Attempt{}, fmt.Errorf("mark %s: %w", ref.ApplicationID, err)
	}
	if reply[0] == "upstream" {
		return "", record.Attempt{}, l.upstreamError()
	}
	if reply[1] == "" {
		return record.Stale, record.Attempt{}, nil
	}
	r, err := record.Parse(ref.ApplicationID, []byte(reply[1]))
	if err != nil {
		return "", record.Attempt{}, err
	}
	return record.Verdict(reply[0]), record.NewAttempt(r), nil
}

// Created records the link that an attempt brought. A paid link is never thrown
// away: it is taken from a superseded attempt as well, and where no run is open
// it is kept beside the outcome. It returns the state that the request is in.
func (l *Ledger) Created(ctx context.Context, a record.Attempt, made record.Made) (record.State, error) {
	minutes := a.Content.With(a.Frozen).ExpiryMinutes
	link, err := fields(
		field{"link_id", made.LinkID},
		field{"url", made.URL},
		field{"expires_at", a.At.Add(time.Duration(minutes) * time.Minute)},
	)
	if err != nil {
		return "", err
	}
	r, run := a.Record, a.Run
	for {
		e, err := l.event(ctx, r, a.Now())
		if err != nil {
			return "", err
		}
		state, err := l.created.Run(ctx, l.rdb, []string{l.keys.Tag()},
			r.ApplicationID, r.Generation, run, l.upstream,
			e.id, e.at, e.idJSON, e.head, e.tail, link).Text()
		if err != nil {
			return "", fmt.Errorf("record the link of %s: %w", r.ApplicationID, err)
		}
		switch state {
		case "upstream":
			return "", l.upstreamError()
		case "late", "gone":
			return "", nil
		case string(record.Created):
			return record.Created, nil
		}
		// Another run has been opened meanwhile: this link ends that one.
		if _, err := fmt.Sscanf(state, "run:%d", &run); err != nil {
			return "", fmt.Errorf("record the link of %s: unexpected reply %q", r.ApplicationID, state)
		}
		r.Run = run
	}
}

// Fault records that an attempt brought no link. It returns the state that the
// request is in now, or "" where another attempt has taken its place.
func (l *Ledger) Fault(ctx context.Context, a record.Attempt, f *fault.Fault, next record.Next) (record.State, error) {
	e, err := l.event(ctx, a.Record, a.Now())
	if err != nil {
		return "", err
	}
	why, err := because(f.Reason(), f.Error())
	if err != nil {
		return "", err
	}
	tooLate, err := because(fault.NotAfter, notAfterMessage)
	if err != nil {
		return "", err
	}
	state, err := l.fault.Run(ctx, l.rdb, []string{l.keys.Tag()},
		a.ApplicationID, a.Generation, a.Run, a.Attempts,
		string(next.Follows), f.Blames(), f.Outcome() == fault.Unknown, next.MaxSpent, next.Delay.Milliseconds(),
		e.id, uuid.NewString(), e.at, e.idJSON, e.head, e.tail, why, tooLate).Text()
	if err != nil {
		return "", fmt.Errorf("record the fault of %s: %w", a.ApplicationID, err)
	}
	if state == string(record.Stale) {
		return "", nil
	}
	return record.State(state), nil
}

const notAfterMessage = "its not_after passed before a link was made"

// Expire ends a request whose not_after has passed, without a call.
func (l *Ledger) Expire(ctx context.Context, r record.Record) (record.State, error) {
	why, err := because(fault.NotAfter, notAfterMessage)
	if err != nil {
		return "", err
	}
	return l.endRun(ctx, r, "F", why)
}

// Cancel ends a request without a call. One that is being called stays in that
// state until its call has an answer.
func (l *Ledger) Cancel(ctx context.Context, r record.Record) (record.State, error) {
	why, err := fields(field{"reason", string(fault.Cancelled)})
	if err != nil {
		return "", err
	}
	return l.endRun(ctx, r, "X", why)
}

func (l *Ledger) endRun(ctx context.Context, r record.Record, letter, why string) (record.State, error) {
	now, err := l.rdb.Time(ctx).Result()
	if err != nil {
		return "", fmt.Errorf("end %s: %w", r.ApplicationID, err)
	}
	e, err := l.event(ctx, r, now)
	if err != nil {
		return "", err
	}
	state, err := l.end.Run(ctx, l.rdb, []string{l.keys.Tag()},
		r.ApplicationID, r.Generation, r.Run, letter, e.id, e.at, e.idJSON, e.head, e.tail, why).Text()
	if err != nil {
		return "", fmt.Errorf("end %s: %w", r.ApplicationID, err)
	}
	if state == string(record.Stale) {
		return "", nil
	}
	return record.State(state), nil
}

// Again starts a new run of a failed request, or lets a held one go on. It
// returns the record as it is then; an interactive one is queued, and the
// caller enqueues its task. ok is false where nothing was changed.
func (l *Ledger) Again(ctx context.Context, r record.Record) (now record.Record, ok bool, err error) {
	reply, err := l.retry.Run(ctx, l.rdb, []string{l.keys.Tag()}, r.ApplicationID, r.Generation, r.Run).StringSlice()
	if err != nil {
		return r, false, fmt.Errorf("retry %s: %w", r.ApplicationID, err)
	}
	state := record.State(reply[0])
	if state != record.Waiting && state != record.Queued || r.State != record.Failed && r.State != record.Held {
		return r, false, nil
	}
	now, err = record.Parse(r.ApplicationID, []byte(reply[1]))
	return now, err == nil, err
}

// Feed makes waiting bulk requests queued, at most most of them, until target
// fed ones wait in the lane. Only one process at a time leads; for the others
// leads is false. The caller enqueues the tasks of the turns that it gets.
func (l *Ledger) Feed(ctx context.Context, target, most int, lease time.Duration) (refs []record.Ref, leads bool, err error) {
	reply, err := l.feed.Run(ctx, l.rdb, []string{l.keys.Tag()},
		l.process.Load(), lease.Milliseconds(), target, most).StringSlice()
	if err != nil {
		return nil, false, fmt.Errorf("feed: %w", err)
	}
	refs, err = parseRefs(reply[1:])
	return refs, reply[0] == "lead", err
}

// Overdue names turns of a lane that nobody has taken up for a while, 1,000 at
// most, so that the caller sees to it that they have their task.
func (l *Ledger) Overdue(ctx context.Context, lane record.Lane, since time.Duration) ([]record.Ref, error) {
	reply, err := l.overdue.Run(ctx, l.rdb, []string{l.keys.Tag()}, string(lane[0]), since.Milliseconds(), 1000).StringSlice()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look for overdue requests: %w", err)
	}
	return parseRefs(reply)
}

func parseRefs(texts []string) ([]record.Ref, error) {
	refs := make([]record.Ref, len(texts))
	for i, s := range texts {
		var err error
		if refs[i], err = record.ParseRef(s); err != nil {
			return nil, err
		}
	}
	return refs, nil
}
