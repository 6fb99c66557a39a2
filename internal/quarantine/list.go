package quarantine

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
)

// List is the list of one account's entries. It is safe for concurrent use.
type List struct {
	rdb  redis.UniversalClient
	keys keyspace.Keys
}

// NewList returns a list that uses, and does not close, rdb.
func NewList(rdb redis.UniversalClient, keys keyspace.Keys) *List { return &List{rdb, keys} }

// Add adds an entry.
func (s *List) Add(ctx context.Context, e Entry) error {
	e.At = time.Now().UTC()
	e.Raw = e.Raw[:min(len(e.Raw), MaxBytes)]
	entry, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode a quarantine entry: %w", err)
	}
	_, err = s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.LPush(ctx, s.keys.Quarantine(), entry)
		pipe.LTrim(ctx, s.keys.Quarantine(), 0, MaxEntries-1)
		pipe.HIncrBy(ctx, s.keys.State(), "poison", 1)
		return nil
	})
	if err != nil {
		return fmt.Errorf("quarantine a task: %w", err)
	}
	return nil
}

// pageSize is the number of entries in one read. Each may have [MaxBytes] bytes.
const pageSize = 20

// All iterates over the entries, the latest first. It may return an entry twice if others
// are added during the iteration.
func (s *List) All(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for from := int64(0); ; from += pageSize {
			page, err := s.rdb.LRange(ctx, s.keys.Quarantine(), from, from+pageSize-1).Result()
			if err != nil {
				yield(Entry{}, fmt.Errorf("read the quarantine: %w", err))
				return
			}
			for _, entry := range page {
				var e Entry
				err := json.Unmarshal([]byte(entry), &e)
				if err != nil {
					err = fmt.Errorf("read the quarantine: %w", err)
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// Len returns the number of entries.
func (s *List) Len(ctx context.Context) (int, error) {
	n, err := s.rdb.LLen(ctx, s.keys.Quarantine()).Result()
	if err != nil {
		return 0, fmt.Errorf("count the quarantine: %w", err)
	}
	return int(n), nil
}

// Drop removes the entries for which drop returns true, and returns their number.
func (s *List) Drop(ctx context.Context, drop func(Entry) bool) (dropped int, err error) {
	for from := 0; ; from += pageSize {
		page, err := s.rdb.LRange(ctx, s.keys.Quarantine(), int64(from), int64(from)+pageSize-1).Result()
		if err != nil {
			return dropped, fmt.Errorf("read the quarantine: %w", err)
		}
		before := dropped
		for _, entry := range page {
			var e Entry
			if json.Unmarshal([]byte(entry), &e) != nil || !drop(e) {
				continue
			}
			n, err := s.rdb.LRem(ctx, s.keys.Quarantine(), 1, entry).Result()
			if dropped += int(n); err != nil {
				return dropped, fmt.Errorf("drop a quarantine entry: %w", err)
			}
		}
		if from -= dropped - before; len(page) < pageSize {
			return dropped, nil
		}
	}
}
