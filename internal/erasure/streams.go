package erasure

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// EraseEntries removes entries that mention one of the application ids from the rejects of
// the intake stream and from the audit trail, and returns their number. It reads both once,
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
	erased, err = er.eraseEntries(ctx, er.keys.Rejects(), rejected)
	if err != nil {
		return erased, err
	}
	n, err := er.eraseEntries(ctx, er.keys.Audit(), audited)
	return erased + n, err
}

func (er *Eraser) eraseEntries(ctx context.Context, stream string, matches func(redis.XMessage) bool) (erased int, err error) {
	for from := "-"; ; {
		entries, err := er.rdb.XRangeN(ctx, stream, from, "+", eventsPage).Result()
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
