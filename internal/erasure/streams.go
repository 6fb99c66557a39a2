package erasure

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// EraseEntries removes entries that name one of some application ids from the rejects of the
// intake stream and from the audit trail, and returns how many. It reads both once, page by
// page.
func (er *Eraser) EraseEntries(ctx context.Context, ids map[string]bool) (gone int, err error) {
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
	gone, err = er.eraseEntries(ctx, er.keys.Rejects(), rejected)
	if err != nil {
		return gone, err
	}
	n, err := er.eraseEntries(ctx, er.keys.Audit(), audited)
	return gone + n, err
}

func (er *Eraser) eraseEntries(ctx context.Context, stream string, meant func(redis.XMessage) bool) (gone int, err error) {
	for from := "-"; ; {
		entries, err := er.rdb.XRangeN(ctx, stream, from, "+", eventsPage).Result()
		if err != nil {
			return gone, readError(stream, err)
		}
		var ids []string
		for _, e := range entries {
			if meant(e) {
				ids = append(ids, e.ID)
			}
			from = "(" + e.ID
		}
		if len(ids) > 0 {
			n, err := er.rdb.XDel(ctx, stream, ids...).Result()
			if gone += int(n); err != nil {
				return gone, fmt.Errorf("remove entries from %s: %w", stream, err)
			}
		}
		if len(entries) < eventsPage {
			return gone, nil
		}
	}
}
