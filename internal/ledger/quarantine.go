package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
)

var quarantineScript = scripts.Script("quarantine.lua")

// panicsKept is how long the count of a turn's panics is kept.
const panicsKept = 24 * time.Hour

// CountPanic counts a panic of a turn's handler in the whole fleet, and returns how many there
// were within a day.
func (l *Ledger) CountPanic(ctx context.Context, ref request.Ref) (int, error) {
	var n *redis.IntCmd
	_, err := l.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		n = pipe.Incr(ctx, l.keys.Panics(ref))
		pipe.Expire(ctx, l.keys.Panics(ref), panicsKept)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count a panic of %s: %w", ref.ApplicationID, err)
	}
	return int(n.Val()), nil
}

// Quarantine ends the run of a request that this version cannot process, and keeps its stored
// content in the outcome. nonce is that of an unused grant; without it, a call may have
// followed the recorded attempt. A record with a damaged header has no run that could be
// ended: it is added to the quarantine and not changed. Quarantine returns the state of the
// request; "" if the turn is not the current one.
func (l *Ledger) Quarantine(ctx context.Context, ref request.Ref, nonce, message string) (request.State, error) {
	for {
		state, err := l.quarantine(ctx, ref, nonce, message)
		if err != nil || state != "changed" {
			return state, err
		}
	}
}

func (l *Ledger) quarantine(ctx context.Context, ref request.Ref, nonce, message string) (request.State, error) {
	id := ref.ApplicationID
	raw, err := l.rdb.Get(ctx, l.keys.Record(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", id, err)
	}
	r, unread := request.Parse(id, raw)
	if r.ApplicationID == "" {
		return "", l.quarantined.Add(ctx, quarantine.Entry{Task: ref.String(), Why: unread.Error(), Raw: raw})
	}
	if r.Generation != ref.Generation || r.Run != ref.Run {
		return "", nil
	}
	kept, _, _ := bytes.Cut(request.Body(raw), []byte("\n"))
	if unread != nil {
		message, kept = unread.Error(), request.Body(raw)
	}
	now, err := l.keys.Clock(ctx, l.rdb).Time()
	if err != nil {
		return "", fmt.Errorf("end %s: %w", id, err)
	}
	e, err := l.events.FreshParts(ctx, r, now)
	if err != nil {
		return "", err
	}
	why, err := event.Reason(fault.Quarantined, message)
	if err != nil {
		return "", err
	}
	cancelled, err := event.Cancelled()
	if err != nil {
		return "", err
	}
	rest, err := event.Members(event.Pair("raw", string(kept)))
	if err != nil {
		return "", err
	}
	state, err := quarantineScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, e.Args(lua.Args{
		"id": id, "raw": raw, "turn": ref.Turn, "process": l.member.Process(), "credential": l.cfg.Credential, "nonce": nonce,
		"reason": why, "cancelled": cancelled, "kept": rest, "unreadable_sections": unread != nil,
	})).Text()
	if err != nil {
		return "", fmt.Errorf("end %s: %w", id, err)
	}
	if state == string(attempt.Stale) {
		return "", nil
	}
	return request.State(state), nil
}
