package ledger

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/kyclink/kyclink/internal/record"
)

const (
	orderPage   = 5      // chunks that are read at a time
	mostMissing = 10_000 // more than an import has on its way when it is broken off
)

// Order walks through the rows of a batch in the input's order, up to 500 at a
// time. Rows that are imported meanwhile may or may not be among them.
func (l *Ledger) Order(ctx context.Context, batch int) iter.Seq2[[]record.Line, error] {
	return func(yield func([]record.Line, error) bool) {
		for chunks, err := range l.chunks(ctx, batch) {
			var page []record.Line
			for _, c := range chunks {
				page = append(page, record.Lines(c.text)...)
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// chunk is one of an order.
type chunk struct {
	number int
	text   string
}

// chunks walks through an order, a few at a time. An import that was broken off
// may have left gaps, so that it ends when as many as there are were seen.
func (l *Ledger) chunks(ctx context.Context, batch int) iter.Seq2[[]chunk, error] {
	return func(yield func([]chunk, error) bool) {
		key := l.keys.Order(batch)
		left, err := l.rdb.HLen(ctx, key).Result()
		for at, missing := 0, 0; err == nil && left > 0 && missing < mostMissing; at += orderPage {
			names := make([]string, orderPage)
			for i := range names {
				names[i] = strconv.Itoa(at + i)
			}
			var values []any
			if values, err = l.rdb.HMGet(ctx, key, names...).Result(); err != nil {
				break
			}
			page := make([]chunk, 0, orderPage)
			for i, v := range values {
				if text, ok := v.(string); ok {
					page = append(page, chunk{at + i, text})
				}
			}
			left -= int64(len(page))
			missing += orderPage - len(page)
			if len(page) > 0 && !yield(page, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, fmt.Errorf("read the order of batch %d: %w", batch, err))
		}
	}
}

// Latest reads the latest generations of requests as they are stored, in the
// order of ids; nil for one that is not kept.
func (l *Ledger) Latest(ctx context.Context, ids []string) ([][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = l.keys.Record(id)
	}
	values, err := l.rdb.MGet(ctx, keys...).Result()
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
