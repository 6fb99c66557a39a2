package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/tasks"
)

var (
	openDeliveriesScript    = scripts.Script("open_deliveries.lua")
	beginDeliveryScript     = scripts.Script("begin_delivery.lua")
	recordDeliveryScript    = scripts.Script("record_delivery.lua")
	stalledDeliveriesScript = scripts.Script("stalled_deliveries.lua")
	dropDeliveryScript      = scripts.Script("drop_delivery.lua")
)

// OpenDeliveries makes the deliveries of events whose requests have a callback URL,
// and gives those that are to be tried: not what was delivered, and what was given
// up only where it is published again. It may be repeated. Give it up to a hundred
// events at a time.
func (l *Ledger) OpenDeliveries(ctx context.Context, events []tasks.Event) ([]delivery.Task, error) {
	rows := lua.NewRows("event_id", "id", "generation", "run", "type", "body")
	for _, e := range events {
		body, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", e.ID, err)
		}
		rows.Add(e.ID, e.Data.ApplicationID, e.Data.Generation, e.Data.Run, e.Type, body)
	}
	reply, err := openDeliveriesScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, nil, rows).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("open the deliveries of %d events: %w", len(events), err)
	}
	var open []delivery.Task
	for i, e := range events {
		d := delivery.Task{EventID: e.ID, ApplicationID: e.Data.ApplicationID, Host: reply[3*i+1]}
		switch status := delivery.Status(reply[3*i]); {
		case status == delivery.GivenUp && e.Replay:
			if d.Again, err = strconv.Atoi(reply[3*i+2]); err != nil {
				return nil, fmt.Errorf("delivery of %s: %w", e.ID, err)
			}
			open = append(open, d)
		case status == delivery.Pending:
			open = append(open, d)
		}
	}
	return open, nil
}

// BeginDelivery counts an attempt and gives what is to be sent; ok is false where
// nothing is to be sent any more. One that was given up is taken up again where
// [delivery.Task].Again says so.
func (l *Ledger) BeginDelivery(ctx context.Context, of delivery.Task) (d delivery.Delivery, ok bool, err error) {
	again := ""
	if of.Again > 0 {
		again = strconv.Itoa(of.Again)
	}
	reply, err := beginDeliveryScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"event_id": of.EventID, "restart": again}).StringSlice()
	if err != nil {
		return d, false, fmt.Errorf("begin to deliver %s: %w", of.EventID, err)
	}
	if len(reply) == 1 {
		return d, false, nil
	}
	fields := map[string]string{}
	for i := 1; i+1 < len(reply); i += 2 {
		fields[reply[i]] = reply[i+1]
	}
	d, err = readDelivery(of.EventID, fields)
	return d, err == nil, err
}

// EndDelivery records what came of an attempt, and gives the delivery's status
// then; empty where it was erased meanwhile. again is after how long it is tried
// again where it was not taken; it is given up where that is 0.
func (l *Ledger) EndDelivery(ctx context.Context, d delivery.Delivery, r delivery.Reply, again time.Duration) (delivery.Status, error) {
	what := "again"
	switch {
	case r.Taken():
		what, r.Body = "taken", "" // nobody will look for what went wrong
	case r.NoAttempt:
		what = "none"
	case again == 0:
		what = "give_up"
	}
	status, err := recordDeliveryScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"event_id": d.EventID, "attempt": d.Attempts, "outcome": what, "code": r.Code, "reason": r.Reason, "message": r.Message,
		"answer": r.Body, "retry_after": again.Milliseconds(),
	}).Text()
	if err != nil {
		return "", fmt.Errorf("record the delivery of %s: %w", d.EventID, err)
	}
	return delivery.Status(status), nil
}

// StalledDeliveries names pending deliveries that nobody has tried though they are due
// for so long, so that the caller sees to it that they have their task: Redis may
// have lost that alone. What was named is named again after as long. more says that
// there are others.
func (l *Ledger) StalledDeliveries(ctx context.Context, since time.Duration) (stalled []delivery.Task, more bool, err error) {
	reply, err := stalledDeliveriesScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"overdue_for": since.Milliseconds(), "max": sweepPage,
	}).StringSlice()
	if err != nil {
		return nil, false, fmt.Errorf("look for stalled deliveries: %w", err)
	}
	for i := 1; i+2 < len(reply); i += 3 {
		stalled = append(stalled, delivery.Task{EventID: reply[i], ApplicationID: reply[i+1], Host: reply[i+2]})
	}
	return stalled, reply[0] == strconv.Itoa(sweepPage), nil
}

// WaiveDelivery takes a delivery that was given up out of [Ledger.Undelivered]; ok is
// false where it is not there, or was tried again since.
func (l *Ledger) WaiveDelivery(ctx context.Context, d delivery.Delivery) (ok bool, err error) {
	ok, err = dropDeliveryScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"event_id": d.EventID, "attempts": d.Attempts}).Bool()
	if err != nil {
		return false, fmt.Errorf("drop the delivery of %s: %w", d.EventID, err)
	}
	return ok, nil
}

// Deliveries are those of a request, as they came.
func (l *Ledger) Deliveries(ctx context.Context, applicationID string) ([]delivery.Delivery, error) {
	events, err := l.DeliveryEvents(ctx, []string{applicationID})
	if err != nil {
		return nil, err
	}
	return l.ReadDeliveries(ctx, events[0])
}

// DeliveryEvents are for each request the ids of its events that have a delivery.
func (l *Ledger) DeliveryEvents(ctx context.Context, ids []string) ([][]string, error) {
	looks := make([]*redis.StringSliceCmd, len(ids))
	if _, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			looks[i] = pipe.LRange(ctx, l.keys.Deliveries(id), 0, -1)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the deliveries of %d requests: %w", len(ids), err)
	}
	events := make([][]string, len(ids))
	for i, look := range looks {
		events[i] = look.Val()
	}
	return events, nil
}

// ReadDeliveries reads deliveries by their events; what is not known is left out.
func (l *Ledger) ReadDeliveries(ctx context.Context, events []string) ([]delivery.Delivery, error) {
	if len(events) == 0 {
		return nil, nil
	}
	looks := make([]*redis.MapStringStringCmd, len(events))
	var next *redis.FloatSliceCmd
	if _, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, event := range events {
			looks[i] = pipe.HGetAll(ctx, l.keys.Delivery(event))
		}
		next = pipe.ZMScore(ctx, l.keys.Pending(), events...)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read %d deliveries: %w", len(events), err)
	}
	var found []delivery.Delivery
	for i, look := range looks {
		if len(look.Val()) == 0 {
			continue
		}
		d, err := readDelivery(events[i], look.Val())
		if err != nil {
			return nil, err
		}
		if at := next.Val()[i]; at > 0 && d.Status == delivery.Pending {
			d.NextAt = time.UnixMilli(int64(at)).UTC()
		}
		found = append(found, d)
	}
	return found, nil
}

// Undelivered walks through the deliveries that were given up from since on and
// before before, in that order, a page at a time. What was dropped is left out.
func (l *Ledger) Undelivered(ctx context.Context, since, before time.Time) iter.Seq2[[]delivery.Delivery, error] {
	return l.deliveries(ctx, l.keys.Undelivered(), since, before, func(d delivery.Delivery) bool {
		return d.Status == delivery.GivenUp && !d.Dropped
	})
}

// Retried walks through the deliveries that were not taken and are tried again, by
// when that is, a page at a time. What is tried meanwhile may come twice.
func (l *Ledger) Retried(ctx context.Context) iter.Seq2[[]delivery.Delivery, error] {
	return l.deliveries(ctx, l.keys.Pending(), time.Time{}, time.Unix(math.MaxInt32, 0), func(d delivery.Delivery) bool {
		return d.Status == delivery.Pending && !d.Last.Taken()
	})
}

func (l *Ledger) deliveries(ctx context.Context, set string, since, before time.Time, meant func(delivery.Delivery) bool) iter.Seq2[[]delivery.Delivery, error] {
	return func(yield func([]delivery.Delivery, error) bool) {
		last := place{float64(since.UnixMilli()), ""}
		for {
			places, err := l.places(ctx, set, last, before)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(places) == 0 {
				return
			}
			last = places[len(places)-1]
			events := make([]string, len(places))
			for i, p := range places {
				events[i] = p.id
			}
			found, err := l.ReadDeliveries(ctx, events)
			page := make([]delivery.Delivery, 0, len(found))
			for _, d := range found {
				if meant(d) {
					page = append(page, d)
				}
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

func readDelivery(event string, fields map[string]string) (delivery.Delivery, error) {
	var failed error
	number := func(name string) int {
		if fields[name] == "" {
			return 0
		}
		n, err := strconv.Atoi(fields[name])
		failed = errors.Join(failed, err)
		return n
	}
	when := func(name string) time.Time {
		if n := number(name); n > 0 {
			return time.UnixMilli(int64(n)).UTC()
		}
		return time.Time{}
	}
	d := delivery.Delivery{
		EventID: event, ApplicationID: fields["application_id"], Generation: number("generation"), Run: number("run"),
		Type: fields["type"], Batch: number("batch"), URL: fields["url"], Host: fields["host"], Body: []byte(fields["body"]),
		Status: delivery.Status(fields["status"]), CreatedAt: when("created_at"), DeliveredAt: when("delivered_at"),
		GivenUpAt: when("given_up_at"), Dropped: fields["dropped"] != "", Attempts: number("attempts"), Tries: number("tries"),
		Last: delivery.Reply{At: when("at"), Code: number("code"), Reason: fields["reason"], Message: fields["message"], Body: fields["answer"]},
	}
	if failed != nil {
		return d, fmt.Errorf("delivery of %s: %w", event, failed)
	}
	return d, nil
}
