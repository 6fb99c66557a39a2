package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/tasks"
)

var (
	openDeliveriesScript    = scripts.Script("open_deliveries.lua")
	beginDeliveryScript     = scripts.Script("begin_delivery.lua")
	recordDeliveryScript    = scripts.Script("record_delivery.lua")
	stalledDeliveriesScript = scripts.Script("stalled_deliveries.lua")
)

// stalledPage is the number of deliveries of one script, which must not block Redis for
// long.
const stalledPage = 200

// Store reads and changes the deliveries of one account. It is safe for concurrent use.
type Store struct {
	rdb  redis.UniversalClient
	keys keyspace.Keys
}

// NewStore returns a store that uses, and does not close, rdb.
func NewStore(rdb redis.UniversalClient, keys keyspace.Keys) *Store { return &Store{rdb, keys} }

// Open creates the deliveries of events whose requests have a callback URL, and returns those
// to attempt: not delivered ones, and given-up ones only if the event is a replay. It may be
// repeated. It accepts up to a hundred events.
func (s *Store) Open(ctx context.Context, events []tasks.Event) ([]Task, error) {
	rows := lua.NewRows("event_id", "id", "generation", "run", "type", "body")
	for _, e := range events {
		body, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", e.ID, err)
		}
		rows.Add(e.ID, e.Data.ApplicationID, e.Data.Generation, e.Data.Run, e.Type, body)
	}
	reply, err := openDeliveriesScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, nil, rows).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("create the deliveries of %d events: %w", len(events), err)
	}
	var open []Task
	for i, e := range events {
		d := Task{EventID: e.ID, ApplicationID: e.Data.ApplicationID, Host: reply[3*i+1]}
		switch status := Status(reply[3*i]); {
		case status == GivenUp && e.Replay:
			if d.RestartAfter, err = strconv.Atoi(reply[3*i+2]); err != nil {
				return nil, fmt.Errorf("delivery of %s: %w", e.ID, err)
			}
			open = append(open, d)
		case status == Pending:
			open = append(open, d)
		}
	}
	return open, nil
}

// Begin counts an attempt and returns the delivery; ok is false if nothing must be sent any
// more. A given-up delivery is restarted if task.RestartAfter is set.
func (s *Store) Begin(ctx context.Context, task Task) (d Delivery, ok bool, err error) {
	restart := ""
	if task.RestartAfter > 0 {
		restart = strconv.Itoa(task.RestartAfter)
	}
	reply, err := beginDeliveryScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"event_id": task.EventID, "restart": restart}).StringSlice()
	if err != nil {
		return d, false, fmt.Errorf("begin the delivery of %s: %w", task.EventID, err)
	}
	if len(reply) == 1 {
		return d, false, nil
	}
	fields := map[string]string{}
	for i := 1; i+1 < len(reply); i += 2 {
		fields[reply[i]] = reply[i+1]
	}
	d, err = parseDelivery(task.EventID, fields)
	return d, err == nil, err
}

// End records the reply to an attempt, and returns the delivery's status; empty if it was
// erased meanwhile. A delivery that was not accepted is retried after a pause, or given up
// if retryAfter is 0.
func (s *Store) End(ctx context.Context, d Delivery, r Reply, retryAfter time.Duration) (Status, error) {
	outcome := "again"
	switch {
	case r.Accepted():
		outcome, r.Body = "taken", "" // the body is kept only for failures
	case r.NoAttempt:
		outcome = "none"
	case retryAfter == 0:
		outcome = "give_up"
	}
	status, err := recordDeliveryScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"event_id": d.EventID, "attempt": d.Attempts, "outcome": outcome, "code": r.Code, "reason": r.Reason, "message": r.Message,
		"answer": r.Body, "retry_after": retryAfter.Milliseconds(),
	}).Text()
	if err != nil {
		return "", fmt.Errorf("record the delivery of %s: %w", d.EventID, err)
	}
	return Status(status), nil
}

// Stalled returns pending deliveries that are overdue by a duration without an attempt. The
// caller ensures that they have their task, which Redis may have lost. A returned delivery
// is returned again after the same duration. more reports that there are others.
func (s *Store) Stalled(ctx context.Context, overdue time.Duration) (stalled []Task, more bool, err error) {
	reply, err := stalledDeliveriesScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"overdue_for": overdue.Milliseconds(), "max": stalledPage,
	}).StringSlice()
	if err != nil {
		return nil, false, fmt.Errorf("find stalled deliveries: %w", err)
	}
	for i := 1; i+2 < len(reply); i += 3 {
		stalled = append(stalled, Task{EventID: reply[i], ApplicationID: reply[i+1], Host: reply[i+2]})
	}
	return stalled, reply[0] == strconv.Itoa(stalledPage), nil
}

// ForRequest returns the deliveries of a request, oldest first. It calls unreadable as
// [Store.Readable] does.
func (s *Store) ForRequest(ctx context.Context, applicationID string, unreadable func(event string, why error)) ([]Delivery, error) {
	events, err := s.EventIDs(ctx, []string{applicationID})
	if err != nil {
		return nil, err
	}
	return s.Readable(ctx, events[0], unreadable)
}

// PageForRequest returns up to limit deliveries of a request, oldest first, without the
// first skip ones. more reports that others follow. It calls unreadable as [Store.Readable]
// does; these are a part of the page.
func (s *Store) PageForRequest(ctx context.Context, applicationID string, skip, limit int, unreadable func(event string, why error)) (page []Delivery, more bool, err error) {
	events, err := s.rdb.LRange(ctx, s.keys.Deliveries(applicationID), int64(skip), int64(skip)+int64(limit)).Result()
	if err != nil {
		return nil, false, fmt.Errorf("read the deliveries of %s: %w", applicationID, err)
	}
	if more = len(events) > limit; more {
		events = events[:limit]
	}
	page, err = s.Readable(ctx, events, unreadable)
	return page, more, err
}

// EventIDs returns for each request the ids of its events that have a delivery.
func (s *Store) EventIDs(ctx context.Context, ids []string) ([][]string, error) {
	lists := make([]*redis.StringSliceCmd, len(ids))
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			lists[i] = pipe.LRange(ctx, s.keys.Deliveries(id), 0, -1)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the deliveries of %d requests: %w", len(ids), err)
	}
	events := make([][]string, len(ids))
	for i, list := range lists {
		events[i] = list.Val()
	}
	return events, nil
}

// Read reads deliveries by their events. Events without a delivery are omitted.
func (s *Store) Read(ctx context.Context, events []string) (found []Delivery, err error) {
	var unreadable error
	found, err = s.Readable(ctx, events, func(_ string, why error) { unreadable = cmp.Or(unreadable, why) })
	return found, cmp.Or(err, unreadable)
}

// Readable is [Store.Read] for lists in which one delivery must not hide the others: it calls
// unreadable for each delivery that cannot be decoded.
func (s *Store) Readable(ctx context.Context, events []string, unreadable func(event string, why error)) ([]Delivery, error) {
	if len(events) == 0 {
		return nil, nil
	}
	hashes := make([]*redis.MapStringStringCmd, len(events))
	var next *redis.FloatSliceCmd
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, event := range events {
			hashes[i] = pipe.HGetAll(ctx, s.keys.Delivery(event))
		}
		next = pipe.ZMScore(ctx, s.keys.Pending(), events...)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read %d deliveries: %w", len(events), err)
	}
	var found []Delivery
	for i, hash := range hashes {
		if len(hash.Val()) == 0 {
			continue
		}
		d, err := parseDelivery(events[i], hash.Val())
		if err != nil {
			unreadable(events[i], err)
			continue
		}
		if at := next.Val()[i]; at > 0 && d.Status == Pending {
			d.NextAt = time.UnixMilli(int64(at)).UTC()
		}
		found = append(found, d)
	}
	return found, nil
}

func parseDelivery(event string, fields map[string]string) (Delivery, error) {
	var failed error
	number := func(name string) int {
		if fields[name] == "" {
			return 0
		}
		n, err := strconv.Atoi(fields[name])
		failed = errors.Join(failed, err)
		return n
	}
	instant := func(name string) time.Time {
		if n := number(name); n > 0 {
			return time.UnixMilli(int64(n)).UTC()
		}
		return time.Time{}
	}
	d := Delivery{
		EventID: event, ApplicationID: fields["application_id"], Generation: number("generation"), Run: number("run"),
		Type: fields["type"], Batch: number("batch"), URL: fields["url"], Host: fields["host"], Body: []byte(fields["body"]), Trace: fields["trace"],
		Status: Status(fields["status"]), CreatedAt: instant("created_at"), DeliveredAt: instant("delivered_at"),
		GivenUpAt: instant("given_up_at"), Dropped: fields["dropped"] != "", Attempts: number("attempts"), Tries: number("tries"),
		Last: Reply{At: instant("at"), Code: number("code"), Reason: fields["reason"], Message: fields["message"], Body: fields["answer"]},
	}
	if failed != nil {
		return d, fmt.Errorf("delivery of %s: %w", event, failed)
	}
	return d, nil
}
