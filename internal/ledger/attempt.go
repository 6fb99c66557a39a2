package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

var (
	endScript          = scripts.Script("end.lua")
	retryScript        = scripts.Script("retry.lua")
	reportSignalScript = scripts.Script("report_signal.lua")
	releaseScript      = scripts.Script("release.lua")
)

// Admit decides whether a turn may be called now and, if so, records the attempt in the same
// step. It fails with [*fleet.UpstreamError] if the account's links are of the other
// kind.
func (l *Ledger) Admit(ctx context.Context, query attempt.Query) (attempt.Decision, error) {
	defaults, err := json.Marshal(query.Defaults)
	if err != nil {
		return attempt.Decision{}, fmt.Errorf("encode the defaults: %w", err)
	}
	ref := query.Ref
	reply, err := texts(l.commits.run(ctx, admitFunction, lua.Args{
		"id": ref.ApplicationID, "generation": ref.Generation, "run": ref.Run, "turn": ref.Turn,
		"process": l.member.Process(), "credential": l.cfg.Credential, "kind": l.member.Upstream(), "defaults": defaults,
		"unbroken": l.member.Unbroken().Milliseconds(), "dead": l.member.DeadAfter().Milliseconds(),
		"nonce": query.Nonce, "connected": query.Connected, "hold_uncertain": l.cfg.HoldUncertain,
	}))
	if err != nil {
		return attempt.Decision{}, fmt.Errorf("admit %s: %w", ref.ApplicationID, err)
	}
	decision := attempt.Decision{Verdict: attempt.Verdict(reply[0]), Reason: reply[3]}
	decision.Probe = reply[0] == string(admission.Probe)
	if decision.Probe || reply[0] == string(admission.Grant) {
		decision.Verdict = attempt.Call
	}
	if decision.Verdict == "upstream" {
		return attempt.Decision{}, l.member.UpstreamError()
	}
	if decision.Wait, err = time.ParseDuration(reply[2] + "ms"); err != nil {
		return attempt.Decision{}, fmt.Errorf("admit %s: unexpected wait %q", ref.ApplicationID, reply[2])
	}
	if reply[1] == "" {
		return decision, nil
	}
	r, err := request.Parse(ref.ApplicationID, []byte(reply[1]))
	if _, ok := errors.AsType[*request.ContentError](err); ok {
		return attempt.Decision{Verdict: attempt.Quarantine, Attempt: attempt.Attempt{Nonce: query.Nonce}}, nil
	}
	if decision.Verdict == attempt.Call {
		l.names.Store(r.Batch, reply[4])
	}
	decision.Attempt = attempt.NewAttempt(r)
	decision.Attempt.Nonce, decision.Attempt.Trace = query.Nonce, r.Content.Trace
	if r.Content.Trace == "" && len(reply) > 5 {
		decision.Attempt.Trace = reply[5]
	}
	if decision.Verdict == attempt.Kept {
		var now int64
		if now, err = strconv.ParseInt(decision.Reason, 10, 64); err != nil {
			return decision, fmt.Errorf("admit %s: unexpected time %q", ref.ApplicationID, decision.Reason)
		}
		decision.Attempt.At, decision.Attempt.Kept = time.UnixMilli(now).UTC(), true
	}
	return decision, err
}

// ReportSignal reports to the gate that a connection or a token was not available for a turn;
// chosen says that this process was chosen to probe. closed reports whether the gate is
// closed now, at least for this process' credentials.
func (l *Ledger) ReportSignal(ctx context.Context, ref request.Ref, f *fault.Fault, chosen bool) (closed bool, err error) {
	signal := f.Signal()
	switch {
	case chosen && signal == fault.SignalUnavailable:
		signal = fault.SignalUnconnected
	case chosen && signal == fault.SignalOutage:
		signal = fault.SignalNoToken
	}
	closed, err = reportSignalScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"signal": string(signal), "id": ref.ApplicationID, "process": l.member.Process(), "credential": l.cfg.Credential,
		"retry_after": f.RetryAfter.Milliseconds(), "message": f.Error(),
	}).Bool()
	if err != nil {
		return false, fmt.Errorf("report the gate signal of %s: %w", ref.ApplicationID, err)
	}
	return closed, nil
}

// Created records the link of an attempt. A paid link is never discarded: a link of a
// superseded attempt is accepted as well, and kept beside the outcome if no run is open. It
// returns the state of the request.
func (l *Ledger) Created(ctx context.Context, a attempt.Attempt, link request.Link) (request.State, error) {
	minutes := a.Content.With(a.Resolved).ExpiryMinutes
	requestedAt := a.At
	if !link.RequestedAt.IsZero() {
		requestedAt = link.RequestedAt
	}
	fields, err := event.Members(
		event.Pair("link_id", link.LinkID),
		event.Pair("url", link.URL),
		event.Pair("expires_at", requestedAt.Add(time.Duration(minutes)*time.Minute)),
	)
	if err != nil {
		return "", err
	}
	r, run := a.Record, a.Run
	for {
		e, err := l.events.Parts(ctx, r, a.Now())
		if err != nil {
			return "", err
		}
		state, err := text(l.commits.run(ctx, createdFunction, e.Args(lua.Args{
			"id": r.ApplicationID, "generation": r.Generation, "run": run, "attempt": a.Attempts,
			"process": l.member.Process(), "nonce": a.Nonce, "credential": l.cfg.Credential, "kind": l.member.Upstream(),
			"began": a.At.UnixMilli(), "latency": a.Took.Milliseconds(), "link": fields, "kept": a.Kept,
		})))
		if err != nil {
			return "", fmt.Errorf("record the link of %s: %w", r.ApplicationID, err)
		}
		switch state {
		case "upstream":
			return "", l.member.UpstreamError()
		case "late", "gone":
			return "", nil
		case string(request.Created):
			return request.Created, nil
		}
		// Another run was opened meanwhile: the link ends that run.
		if _, err := fmt.Sscanf(state, "run:%d", &run); err != nil {
			return "", fmt.Errorf("record the link of %s: unexpected reply %q", r.ApplicationID, state)
		}
		r.Run = run
	}
}

// Fault records an attempt without a link. It returns the state of the request, or "" if the
// attempt is not the current one.
func (l *Ledger) Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error) {
	e, err := l.events.Parts(ctx, a.Record, a.Now())
	if err != nil {
		return "", err
	}
	reason := f.Reason()
	if next.Action == attempt.Hold && f.Scope() != fault.Person {
		reason = fault.UnknownOutcome // the reason for the hold
	}
	why, err := event.Reason(reason, f.Error())
	if err != nil {
		return "", err
	}
	tooLate, err := event.Reason(fault.NotAfter, notAfterMessage)
	if err != nil {
		return "", err
	}
	kept, signal := "", f.Signal()
	if f.Kept != "" {
		if kept, err = event.Members(event.Pair("kept", f.Kept)); err != nil {
			return "", err
		}
	}
	if a.Kept {
		signal = "" // FaceKi was not called
	}
	state, err := text(l.commits.run(ctx, faultFunction, e.Args(lua.Args{
		"id": a.ApplicationID, "generation": a.Generation, "run": a.Run, "attempt": a.Attempts,
		"process": l.member.Process(), "nonce": a.Nonce, "credential": l.cfg.Credential, "latency": a.Took.Milliseconds(),
		"signal": string(signal), "charged_signal": string(f.ChargedSignal()), "retry_after": f.RetryAfter.Milliseconds(), "message": f.Error(),
		"action": string(next.Action), "chargeable": f.Chargeable() && !a.Kept, "uncertain": f.Uncertain(),
		"max_charged": next.MaxCharged, "delay": next.Delay.Milliseconds(), "held_event_id": uuid.NewString(),
		"reason": why, "expired_reason": tooLate, "kept": kept,
	})))
	if err != nil {
		return "", fmt.Errorf("record the fault of %s: %w", a.ApplicationID, err)
	}
	if state == string(attempt.Stale) {
		return "", nil
	}
	state, paused := strings.CutSuffix(state, "+paused")
	if paused && l.cfg.RowsRefused != nil {
		name, _ := l.names.Name(ctx, a.Batch) // without it, the message says less
		l.cfg.RowsRefused(name, f.Error())
	}
	return request.State(state), nil
}

const deadProcessMessage = "the process that called FaceKi ended before it recorded an answer"

// Hold holds a request whose attempt died with its process. It returns the state of the
// request, or "" if the attempt is not the current one.
func (l *Ledger) Hold(ctx context.Context, r request.Record) (request.State, error) {
	why, err := event.Reason(fault.UnknownOutcome, deadProcessMessage)
	if err != nil {
		return "", err
	}
	now, err := l.keys.Clock(ctx, l.rdb).Time()
	if err != nil {
		return "", fmt.Errorf("hold %s: %w", r.ApplicationID, err)
	}
	e, err := l.events.FreshParts(ctx, r, now)
	if err != nil {
		return "", err
	}
	// The signal says only that the call is over, and nothing about FaceKi. A probe was the
	// dead process' probe.
	state, err := text(l.commits.run(ctx, faultFunction, e.Args(lua.Args{
		"id": r.ApplicationID, "generation": r.Generation, "run": r.Run, "attempt": r.Attempts,
		"process": r.Holder, "nonce": "", "credential": l.cfg.Credential, "latency": 0,
		"signal": string(fault.SignalNone), "charged_signal": string(fault.SignalNone), "retry_after": 0, "message": deadProcessMessage,
		"action": string(attempt.Hold), "chargeable": false, "uncertain": true,
		"max_charged": 0, "delay": 0, "held_event_id": uuid.NewString(),
		"reason": why, "expired_reason": why, "kept": "",
	})))
	if err != nil {
		return "", fmt.Errorf("hold %s: %w", r.ApplicationID, err)
	}
	if state == string(attempt.Stale) {
		return "", nil
	}
	return request.State(state), nil
}

const notAfterMessage = "its not_after passed before a link was made"

// Expire ends a request whose not_after has passed, without a call.
func (l *Ledger) Expire(ctx context.Context, r request.Record) (request.State, error) {
	why, err := event.Reason(fault.NotAfter, notAfterMessage)
	if err != nil {
		return "", err
	}
	return l.endRun(ctx, r, "F", why, "")
}

// Cancel ends a request without a call. A request in a call keeps its state until the call
// has ended.
func (l *Ledger) Cancel(ctx context.Context, r request.Record) (request.State, error) {
	why, err := event.Cancelled()
	if err != nil {
		return "", err
	}
	return l.endRun(ctx, r, "X", why, "")
}

// Drop cancels a held request; ok is false if it is not held any more.
func (l *Ledger) Drop(ctx context.Context, r request.Record) (ok bool, err error) {
	why, err := event.Cancelled()
	if err != nil {
		return false, err
	}
	state, err := l.endRun(ctx, r, "X", why, strconv.Itoa(r.Attempts))
	return state == request.Cancelled, err
}

func (l *Ledger) endRun(ctx context.Context, r request.Record, letter, why, condition string) (request.State, error) {
	now, err := l.keys.Clock(ctx, l.rdb).Time()
	if err != nil {
		return "", fmt.Errorf("end %s: %w", r.ApplicationID, err)
	}
	e, err := l.events.FreshParts(ctx, r, now)
	if err != nil {
		return "", err
	}
	state, err := endScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, e.Args(lua.Args{
		"id": r.ApplicationID, "generation": r.Generation, "run": r.Run, "state": letter, "condition": condition, "reason": why,
	})).Text()
	if err != nil {
		return "", fmt.Errorf("end %s: %w", r.ApplicationID, err)
	}
	if state == string(attempt.Stale) {
		return "", nil
	}
	return request.State(state), nil
}

// Retry starts a new run of a failed request, or continues a held one. It returns the
// changed record; an interactive request is queued, and the caller enqueues its task. A
// request that has a link beside its outcome becomes created with it. ok is false if
// nothing was changed.
func (l *Ledger) Retry(ctx context.Context, r request.Record) (now request.Record, ok bool, err error) {
	return l.retryIn(ctx, r, "")
}

// RetryInBulk is [Ledger.Retry] that moves an interactive request to the bulk lane, so that
// people who wait for their link now do not wait for those that are retried by the thousand.
func (l *Ledger) RetryInBulk(ctx context.Context, r request.Record) (now request.Record, ok bool, err error) {
	return l.retryIn(ctx, r, "b")
}

// retryIn retries a request, in the lane with a letter if that is not empty.
func (l *Ledger) retryIn(ctx context.Context, r request.Record, lane string) (now request.Record, ok bool, err error) {
	reply, err := l.retry(ctx, r, lane, event.Parts{})
	if err == nil && reply[0] == "late" {
		var e event.Parts
		if e, err = l.createdEvent(ctx, r); err == nil {
			reply, err = l.retry(ctx, r, lane, e)
		}
	}
	if err != nil {
		return r, false, fmt.Errorf("retry %s: %w", r.ApplicationID, err)
	}
	if reply[2] == "" || r.State != request.Failed && r.State != request.Held {
		return r, false, nil
	}
	now, err = request.Parse(r.ApplicationID, []byte(reply[1]))
	return now, err == nil, err
}

func (l *Ledger) retry(ctx context.Context, r request.Record, lane string, e event.Parts) ([]string, error) {
	return retryScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, e.Args(lua.Args{
		"id": r.ApplicationID, "generation": r.Generation, "run": r.Run, "attempts": r.Attempts, "lane": lane,
	})).StringSlice()
}

// createdEvent returns the event for the end of the run that a retry of r would open.
func (l *Ledger) createdEvent(ctx context.Context, r request.Record) (event.Parts, error) {
	now, err := l.keys.Clock(ctx, l.rdb).Time()
	if err != nil {
		return event.Parts{}, err
	}
	if r.State == request.Failed {
		r.Run++
	}
	return l.events.FreshParts(ctx, r, now)
}

// Release releases a turn to other processes. The request gets its next turn, whose task the
// caller enqueues. ok is false if the turn is not the current one.
func (l *Ledger) Release(ctx context.Context, ref request.Ref) (lane request.Lane, next request.Ref, ok bool, err error) {
	reply, err := releaseScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"id": ref.ApplicationID, "generation": ref.Generation, "run": ref.Run, "turn": ref.Turn,
	}).StringSlice()
	if err != nil {
		return "", next, false, fmt.Errorf("release %s: %w", ref.ApplicationID, err)
	}
	if len(reply) == 0 {
		return "", next, false, nil
	}
	next, err = request.ParseRef(reply[1])
	return request.Lane(reply[0]), next, err == nil, err
}

// Feed moves waiting bulk requests to queued, at most target.MaxFed, if this process is the
// leader. The caller enqueues the tasks of the returned turns.
func (l *Ledger) Feed(ctx context.Context, target FeedTarget) (FeedResult, error) {
	values, err := feedScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"process": l.member.Process(), "lease": target.Lease.Milliseconds(), "min_queued": target.MinQueued, "max_queued": target.MaxQueued,
		"ahead": target.Ahead.Milliseconds(), "max_fed": target.MaxFed, "alive": l.member.DeadAfter().Milliseconds(),
	}).Slice()
	if err != nil {
		return FeedResult{}, fmt.Errorf("feed: %w", err)
	}
	bundles, _ := values[3].(int64)
	changed, _ := values[4].(int64)
	reply := make([]string, len(values))
	for i, v := range values {
		reply[i] = fmt.Sprint(v)
	}
	fed := FeedResult{Leads: reply[0] == "lead", Bundles: bundles == 1}
	n, errN := strconv.ParseFloat(reply[1], 64)
	per, errPer := strconv.ParseFloat(reply[2], 64)
	if errN != nil || errPer != nil || per == 0 {
		return FeedResult{}, fmt.Errorf("feed: unexpected rate %q per %q ms", reply[1], reply[2])
	}
	fed.PerSecond = n / per * 1000
	fed.GateChanges = reply[5 : 5+changed]
	fed.Refs, err = parseRefs(reply[5+changed:])
	return fed, err
}

func parseRefs(texts []string) ([]request.Ref, error) {
	refs := make([]request.Ref, len(texts))
	for i, s := range texts {
		var err error
		if refs[i], err = request.ParseRef(s); err != nil {
			return nil, err
		}
	}
	return refs, nil
}
