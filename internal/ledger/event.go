package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// event is what a script needs from its caller to publish an event: JSON that
// it puts together with the numbers that only the script knows.
type event struct {
	id, at, idJSON string
	head, tail     string // ,"batch":… and ,"metadata":…
}

func (l *Ledger) event(ctx context.Context, r request.Record, at time.Time) (event, error) {
	idJSON, err := json.Marshal(r.ApplicationID)
	if err != nil {
		return event{}, fmt.Errorf("encode %s: %w", r.ApplicationID, err)
	}
	e := event{id: r.EventID(l.keys.Account).String(), at: timestamp(at), idJSON: string(idJSON)}
	if r.Batch != 0 {
		name, err := l.batchName(ctx, r.Batch)
		if err != nil {
			return event{}, err
		}
		if e.head, err = fields(field{"batch", name}); err != nil {
			return event{}, err
		}
	}
	if len(r.Content.Metadata) > 0 {
		if e.tail, err = fields(field{"metadata", r.Content.Metadata}); err != nil {
			return event{}, err
		}
	}
	return e, nil
}

// eventNow is event for what no mark of this process told the batch's name of: a Redis
// that lost its last writes may have given the batch's number to another one since.
func (l *Ledger) eventNow(ctx context.Context, r request.Record, at time.Time) (event, error) {
	l.names.Delete(r.Batch)
	return l.event(ctx, r, at)
}

// batchName is kept until the next mark of a request of the batch: see [Ledger.Mark].
func (l *Ledger) batchName(ctx context.Context, number int) (string, error) {
	if name, ok := l.names.Load(number); ok {
		return name, nil
	}
	name, err := l.rdb.HGet(ctx, l.keys.Batch(number), "name").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the name of batch %d: %w", number, err)
	}
	l.names.Store(number, name)
	return name, nil
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

type field struct {
	key   string
	value any
}

// fields gives JSON members that each start with a comma.
func fields(list ...field) (string, error) {
	var out []byte
	for _, f := range list {
		if t, ok := f.value.(time.Time); ok {
			f.value = timestamp(t)
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return "", fmt.Errorf("encode %s: %w", f.key, err)
		}
		out = fmt.Appendf(out, ",%q:%s", f.key, value)
	}
	return string(out), nil
}

func because(reason fault.Reason, message string) (string, error) {
	return fields(field{"reason", string(reason)}, field{"message", message})
}
