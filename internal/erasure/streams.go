package erasure

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// auditIndexed is the field of the account with the time, in ms, from which on changes in
// the audit trail are listed by their targets.
const auditIndexed = "audit_indexed"

// EraseEntries removes entries that mention one of the application ids from the rejects of
// the intake stream, and those of an earlier version from the audit trail, and returns their
// number. It reads the rejects, which are at most 64 MiB, and that part of the trail once,
// page by page.
func (er *Eraser) EraseEntries(ctx context.Context, ids map[string]bool) (erased int, err error) {
	audited := func(e redis.XMessage) bool { return ids[fmt.Sprint(e.Values["target"])] }
	rejected := func(e redis.XMessage) bool {
		for id := range ids {
			for _, field := range []string{"original", "message"} {
				if text, _ := e.Values[field].(string); mentions([]byte(text), id) {
					return true
				}
			}
		}
		return false
	}
	erased, err = er.eraseEntries(ctx, er.keys.Rejects(), "+", rejected)
	if err != nil {
		return erased, err
	}
	unlisted, err := er.unlistedChanges(ctx)
	if err != nil {
		return erased, err
	}
	n, err := er.eraseEntries(ctx, er.keys.Audit(), unlisted, audited)
	return erased + n, err
}

// unlistedChanges returns until which entry of the audit trail changes may not be listed by
// their targets.
func (er *Eraser) unlistedChanges(ctx context.Context) (string, error) {
	since, err := er.rdb.HGet(ctx, er.keys.State(), auditIndexed).Int64()
	switch {
	case errors.Is(err, redis.Nil):
		return "+", nil
	case err != nil:
		return "", readError("since when the audit trail is indexed", err)
	}
	return strconv.FormatInt(time.UnixMilli(since).Add(mixedFor).UnixMilli(), 10), nil
}

// eraseEntries removes the matching entries of a stream up to one of them.
func (er *Eraser) eraseEntries(ctx context.Context, stream, until string, matches func(redis.XMessage) bool) (erased int, err error) {
	for from := "-"; ; {
		entries, err := er.rdb.XRangeN(ctx, stream, from, until, eventsPage).Result()
		if err != nil {
			return erased, readError(stream, err)
		}
		var ids []string
		for _, e := range entries {
			if matches(e) {
				ids = append(ids, e.ID)
			}
			from = "(" + e.ID
		}
		if len(ids) > 0 {
			n, err := er.rdb.XDel(ctx, stream, ids...).Result()
			if erased += int(n); err != nil {
				return erased, fmt.Errorf("remove entries from %s: %w", stream, err)
			}
		}
		if len(entries) < eventsPage {
			return erased, nil
		}
	}
}
