// Package record reads the stored records of requests. It changes nothing.
package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
)

// Reader reads the records of one account.
type Reader struct {
	rdb  redis.Cmdable
	keys keyspace.Keys
}

// NewReader returns a reader that uses, and does not close, rdb.
func NewReader(rdb redis.Cmdable, keys keyspace.Keys) *Reader {
	return &Reader{rdb: rdb, keys: keys}
}

// Get reads the latest generation of a request; ok is false if there is none.
func (d *Reader) Get(ctx context.Context, applicationID string) (r request.Record, ok bool, err error) {
	raw, err := d.rdb.Get(ctx, d.keys.Record(applicationID)).Bytes()
	if errors.Is(err, redis.Nil) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("read %s: %w", applicationID, err)
	}
	r, err = request.Parse(applicationID, raw)
	return r, err == nil, err
}

// History reads all stored generations of a request, the latest first.
func (d *Reader) History(ctx context.Context, applicationID string) ([]request.Record, error) {
	latest, ok, err := d.Get(ctx, applicationID)
	if err != nil || !ok {
		return nil, err
	}
	history := []request.Record{latest}
	for generation := latest.Generation - 1; generation > 0; generation-- {
		raw, err := d.rdb.Get(ctx, d.keys.Old(applicationID, generation)).Bytes()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read generation %d of %s: %w", generation, applicationID, err)
		}
		r, err := request.Parse(applicationID, raw)
		if err != nil {
			return nil, err
		}
		history = append(history, r)
	}
	return history, nil
}

// Latest reads the latest generations of requests in their stored form, in the order of
// ids; nil for a request without a record.
func (d *Reader) Latest(ctx context.Context, ids []string) ([][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = d.keys.Record(id)
	}
	values, err := d.rdb.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read %d requests: %w", len(ids), err)
	}
	records := make([][]byte, len(ids))
	for i, v := range values {
		if text, ok := v.(string); ok {
			records[i] = []byte(text)
		}
	}
	return records, nil
}

// Read reads the latest generations of requests. Requests without a record are omitted.
func (d *Reader) Read(ctx context.Context, ids []string) ([]request.Record, error) {
	return d.parsed(ctx, ids, request.Parse)
}

// Headers is [Reader.Read] for callers that need only headers: a record whose content
// cannot be decoded is included, and one whose header cannot be decoded is omitted.
func (d *Reader) Headers(ctx context.Context, ids []string) ([]request.Record, error) {
	return d.parsed(ctx, ids, func(id string, raw []byte) (request.Record, error) {
		r, err := request.ParseHeader(id, raw)
		if err != nil {
			return request.Record{}, nil //nolint:nilerr // it is omitted
		}
		return r, nil
	})
}

// Readable is [Reader.Read] for lists in which one record must not hide the others: it calls
// unreadable for each record that cannot be decoded, with what its header has. The state is
// empty if the header cannot be decoded either.
func (d *Reader) Readable(ctx context.Context, ids []string, unreadable func(header request.Record, why error)) ([]request.Record, error) {
	return d.readable(ctx, ids, request.Parse, unreadable)
}

// Columns is [Reader.Readable] with only what the columns of each record's header have and, with
// reasons, the reason of its outcome: most of the time of a long read is that of parsing.
func (d *Reader) Columns(ctx context.Context, ids []string, reasons bool, unreadable func(header request.Record, why error)) ([]request.Record, error) {
	parse := request.Peek
	if reasons {
		parse = request.PeekReason
	}
	return d.readable(ctx, ids, parse, unreadable)
}

func (d *Reader) readable(ctx context.Context, ids []string, parse func(string, []byte) (request.Record, error), unreadable func(request.Record, error)) ([]request.Record, error) {
	return d.parsed(ctx, ids, func(id string, raw []byte) (request.Record, error) {
		r, err := parse(id, raw)
		if err != nil {
			r.ApplicationID = id
			unreadable(r, err)
			return request.Record{}, nil
		}
		return r, nil
	})
}

func (d *Reader) parsed(ctx context.Context, ids []string, parse func(id string, raw []byte) (request.Record, error)) ([]request.Record, error) {
	stored, err := d.Latest(ctx, ids)
	if err != nil {
		return nil, err
	}
	found := make([]request.Record, 0, len(ids))
	for i, raw := range stored {
		if raw == nil {
			continue
		}
		r, err := parse(ids[i], raw)
		if err != nil {
			return nil, err
		}
		if r.ApplicationID != "" {
			found = append(found, r)
		}
	}
	return found, nil
}

// RetryAt returns the end of a queued request's pause after a fault; the zero time if the
// request may be called now, or is not queued.
func (d *Reader) RetryAt(ctx context.Context, lane request.Lane, applicationID string) (time.Time, error) {
	var clock keyspace.Clock
	var score *redis.FloatCmd
	_, err := d.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = d.keys.Clock(ctx, pipe)
		score = pipe.ZScore(ctx, d.keys.Queued(lane), applicationID)
		return nil
	})
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the retry time of %s: %w", applicationID, err)
	}
	now, err := clock.Time()
	at := time.UnixMilli(int64(score.Val())).UTC()
	if err != nil || !at.After(now) {
		return time.Time{}, err
	}
	return at, nil
}
