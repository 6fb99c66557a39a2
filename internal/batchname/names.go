// Package batchname reads and caches the names of batches.
package batchname

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
)

// lifetime is how long a name is cached. The number of a deleted batch is not reused for at
// least a day.
const lifetime = time.Hour

// Cache caches batch names by number. It is safe for concurrent use, and its zero value is
// ready to use.
type Cache struct{ known sync.Map }

type entry struct {
	name  string
	until time.Time
}

// Load returns a name that was stored within the last hour.
func (c *Cache) Load(number int) (name string, ok bool) {
	v, ok := c.known.Load(number)
	if !ok || !time.Now().Before(v.(entry).until) {
		return "", false
	}
	return v.(entry).name, true
}

// Store caches a name.
func (c *Cache) Store(number int, name string) {
	c.known.Store(number, entry{name, time.Now().Add(lifetime)})
}

// Delete removes a name from the cache.
func (c *Cache) Delete(number int) { c.known.Delete(number) }

// Reader reads batch names from Redis, through a cache.
type Reader struct {
	Cache

	rdb  redis.Cmdable
	keys keyspace.Keys
}

// NewReader returns a reader with an empty cache.
func NewReader(rdb redis.Cmdable, keys keyspace.Keys) *Reader {
	return &Reader{rdb: rdb, keys: keys}
}

// Name returns the name of a batch; "" for number 0, which means no batch, and for a batch
// that does not exist.
func (r *Reader) Name(ctx context.Context, number int) (string, error) {
	if number == 0 {
		return "", nil
	}
	if name, ok := r.Load(number); ok {
		return name, nil
	}
	name, err := r.rdb.HGet(ctx, r.keys.Batch(number), "name").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the name of batch %d: %w", number, err)
	}
	r.Store(number, name)
	return name, nil
}

// Number returns the number of a batch; ok is false if there is no batch of that name.
func (r *Reader) Number(ctx context.Context, name string) (number int, ok bool, err error) {
	number, err = r.rdb.HGet(ctx, r.keys.Batches(), name).Int()
	if errors.Is(err, redis.Nil) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read batch %q: %w", name, err)
	}
	return number, true, nil
}
