package api

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
)

const (
	// maxTrail is how many changes are kept, the latest: some 100 MB in Redis.
	maxTrail  = 1_000_000
	trailPage = 1000
)

// Trail is the audit trail of an account, a stream in Redis of a million changes
// at most. It is safe for concurrent use.
type Trail struct {
	rdb redis.UniversalClient
	key string
}

// NewTrail makes a trail that uses, and does not close, rdb.
func NewTrail(rdb redis.UniversalClient, account string) *Trail {
	return &Trail{rdb: rdb, key: keyspace.Keys{Account: account}.Audit()}
}

// Append is [Audit]'s Append.
func (t *Trail) Append(ctx context.Context, c Change) error {
	values := []string{"key", c.Key.ID, "name", c.Key.Name, "action", c.Action, "target", c.Target, "request", c.RequestID}
	if c.By != "" {
		values = append(values, "by", c.By)
	}
	err := t.rdb.XAdd(ctx, &redis.XAddArgs{Stream: t.key, MaxLen: maxTrail, Approx: true, Values: values}).Err()
	if err != nil {
		return fmt.Errorf("write the audit trail: %w", err)
	}
	return nil
}

// Changes gives what was changed since then, the newest last. Keys have no scopes.
func (t *Trail) Changes(ctx context.Context, since time.Time) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		from := "-"
		if !since.IsZero() {
			from = strconv.FormatInt(max(0, since.UnixMilli()), 10)
		}
		for {
			entries, err := t.rdb.XRangeN(ctx, t.key, from, "+", trailPage).Result()
			if err != nil {
				yield(Change{}, fmt.Errorf("read the audit trail: %w", err))
				return
			}
			for _, e := range entries {
				if !yield(change(e)) {
					return
				}
				from = "(" + e.ID
			}
			if len(entries) < trailPage {
				return
			}
		}
	}
}

func change(e redis.XMessage) (Change, error) {
	field := func(name string) string { s, _ := e.Values[name].(string); return s }
	text, _, _ := strings.Cut(e.ID, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Change{}, fmt.Errorf("read entry %s of the audit trail: %w", e.ID, err)
	}
	return Change{
		At: time.UnixMilli(ms).UTC(), Key: Key{ID: field("key"), Name: field("name")}, By: field("by"),
		Action: field("action"), Target: field("target"), RequestID: field("request"),
	}, nil
}
