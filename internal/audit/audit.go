// Package audit stores the audit trail of an account: who changed what, and when.
package audit

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
)

const (
	// maxChanges is the number of changes that are kept, about 120 MB in Redis.
	maxChanges = 1_000_000
	pageSize   = 1000
)

// Change is one entry of the audit trail.
type Change struct {
	// At is the time on Redis' clock. [Trail.Append] ignores it.
	At time.Time
	// Key is the API key that made the change; zero for a change from the command line.
	Key apikey.Key
	// By is who made the change from the command line, as user@host; empty for an API key.
	By string
	// Action is what was done, such as "links.request" or "batches.pause".
	Action string
	// Target is an application ID or the name of a batch; empty for the account.
	Target string
	// RequestID is the ID of the HTTP request, as in the response and the log.
	RequestID string
}

// Trail is the audit trail of an account: a stream in Redis of at most a million
// changes. It is safe for concurrent use.
type Trail struct {
	rdb  redis.UniversalClient
	keys keyspace.Keys
	most int // changes that are kept
}

// NewTrail returns a trail that uses rdb and does not close it.
func NewTrail(rdb redis.UniversalClient, account string) *Trail {
	return &Trail{rdb: rdb, keys: keyspace.Keys{Account: account}, most: maxChanges}
}

// Append stores a change. It is found by its target, so that an erasure does not read the
// whole trail.
func (t *Trail) Append(ctx context.Context, c Change) error {
	err := appendScript.Run(ctx, t.rdb, []string{t.keys.Tag()}, lua.Args{
		"max": t.most, "key": c.Key.ID, "name": c.Key.Name, "action": c.Action, "target": c.Target, "request": c.RequestID, "by": c.By,
	}).Err()
	if err != nil {
		return fmt.Errorf("write the audit trail: %w", err)
	}
	return nil
}

// Changes returns the changes since a time, the newest last. Their keys have no scopes.
func (t *Trail) Changes(ctx context.Context, since time.Time) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		from := "-"
		if !since.IsZero() {
			from = strconv.FormatInt(max(0, since.UnixMilli()), 10)
		}
		for {
			entries, err := t.rdb.XRangeN(ctx, t.keys.Audit(), from, "+", pageSize).Result()
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
			if len(entries) < pageSize {
				return
			}
		}
	}
}

// Page returns up to limit changes from since on and earlier than before, the newest first.
// Zero times do not restrict them. after continues behind an earlier page: it is the ID that
// this page returned as next, which is "" on the last page. Changes are stored in order, so
// that following next returns each once, whatever is added meanwhile.
func (t *Trail) Page(ctx context.Context, since, before time.Time, after string, limit int) (page []Change, next string, err error) {
	newest, oldest := "+", "-"
	switch {
	case after != "":
		newest = "(" + after
	case !before.IsZero():
		newest = fmt.Sprintf("(%d-0", max(0, before.UnixMilli()))
	}
	if !since.IsZero() {
		oldest = strconv.FormatInt(max(0, since.UnixMilli()), 10)
	}
	entries, err := t.rdb.XRevRangeN(ctx, t.keys.Audit(), newest, oldest, int64(limit)+1).Result()
	if err != nil {
		return nil, "", fmt.Errorf("read the audit trail: %w", err)
	}
	if len(entries) > limit {
		entries = entries[:limit]
		next = entries[limit-1].ID
	}
	for _, e := range entries {
		c, err := change(e)
		if err != nil {
			return nil, "", err
		}
		page = append(page, c)
	}
	return page, next, nil
}

func change(e redis.XMessage) (Change, error) {
	field := func(name string) string { s, _ := e.Values[name].(string); return s }
	text, _, _ := strings.Cut(e.ID, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Change{}, fmt.Errorf("read entry %s of the audit trail: %w", e.ID, err)
	}
	return Change{
		At: time.UnixMilli(ms).UTC(), Key: apikey.Key{ID: field("key"), Name: field("name")}, By: field("by"),
		Action: field("action"), Target: field("target"), RequestID: field("request"),
	}, nil
}
