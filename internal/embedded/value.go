package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// mostPending is how many pending entries of a group are read at most.
const mostPending = 1_000_000

// read returns a key with its value.
func read(ctx context.Context, rdb redis.UniversalClient, key string) (v value, err error) {
	v.Key = []byte(key)
	if v.Type, err = rdb.Type(ctx, key).Result(); err != nil {
		return v, err
	}
	left, err := rdb.PTTL(ctx, key).Result()
	if err != nil {
		return v, err
	}
	if left > 0 {
		v.ExpiresAt = now() + left.Milliseconds()
	}
	var items []string
	switch v.Type {
	case "string":
		var content string
		content, err = rdb.Get(ctx, key).Result()
		items = append(items, content)
	case "list":
		items, err = rdb.LRange(ctx, key, 0, -1).Result()
	case "set":
		items, err = rdb.SMembers(ctx, key).Result()
	case "hash":
		var fields map[string]string
		fields, err = rdb.HGetAll(ctx, key).Result()
		for name, content := range fields {
			items = append(items, name, content)
		}
	case "zset":
		var members []redis.Z
		members, err = rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
		for _, m := range members {
			items = append(items, fmt.Sprint(m.Member))
			v.Scores = append(v.Scores, m.Score)
		}
	case "stream":
		err = v.readStream(ctx, rdb)
	case "none":
	default:
		err = fmt.Errorf("type %q is unknown", v.Type)
	}
	v.Items = raw(items)
	return v, err
}

func (v *value) readStream(ctx context.Context, rdb redis.UniversalClient) error {
	key := string(v.Key)
	// XRange of the client loses the order of fields.
	reply, err := rdb.Do(ctx, "XRANGE", key, "-", "+").Slice()
	if err != nil {
		return err
	}
	for _, r := range reply {
		parts, _ := r.([]any)
		if len(parts) != 2 {
			return fmt.Errorf("unexpected entry %v", r)
		}
		fields, _ := parts[1].([]any)
		e := entry{ID: fmt.Sprint(parts[0])}
		for _, f := range fields {
			e.Items = append(e.Items, []byte(fmt.Sprint(f)))
		}
		v.Entries = append(v.Entries, e)
	}
	groups, err := rdb.XInfoGroups(ctx, key).Result()
	if err != nil {
		return err
	}
	for _, g := range groups {
		read, err := readGroup(ctx, rdb, key, g)
		if err != nil {
			return err
		}
		v.Groups = append(v.Groups, read)
	}
	return nil
}

func readGroup(ctx context.Context, rdb redis.UniversalClient, key string, info redis.XInfoGroup) (group, error) {
	g := group{Name: info.Name, Last: info.LastDeliveredID}
	consumers, err := rdb.XInfoConsumers(ctx, key, g.Name).Result()
	if err != nil {
		return g, err
	}
	for _, c := range consumers {
		g.Consumers = append(g.Consumers, c.Name)
	}
	waiting, err := rdb.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: g.Name, Start: "-", End: "+", Count: mostPending}).Result()
	if err != nil {
		return g, err
	}
	for _, p := range waiting {
		g.Pending = append(g.Pending, pending{ID: p.ID, Consumer: p.Consumer, Deliveries: p.RetryCount, At: now() - p.Idle.Milliseconds()})
	}
	return g, nil
}

// restore writes a key with its value to a Redis that does not have it.
func (v value) restore(ctx context.Context, rdb redis.UniversalClient) error {
	if v.ExpiresAt != 0 && v.ExpiresAt <= now() {
		return nil
	}
	key := string(v.Key)
	pipe := rdb.Pipeline()
	items := arguments(v.Items)
	switch v.Type {
	case "string":
		pipe.Do(ctx, append([]any{"SET", key}, items...)...)
	case "list":
		pipe.RPush(ctx, key, items...)
	case "set":
		pipe.SAdd(ctx, key, items...)
	case "hash":
		pipe.HSet(ctx, key, items...)
	case "zset":
		if len(v.Scores) != len(items) {
			return fmt.Errorf("%d members have %d scores", len(items), len(v.Scores))
		}
		for i, m := range items {
			pipe.ZAdd(ctx, key, redis.Z{Score: v.Scores[i], Member: m})
		}
	case "stream":
		v.restoreStream(ctx, pipe)
	default:
		return fmt.Errorf("type %q is unknown", v.Type)
	}
	if v.ExpiresAt != 0 {
		pipe.PExpireAt(ctx, key, time.UnixMilli(v.ExpiresAt))
	}
	_, err := pipe.Exec(ctx)
	return err
}

func (v value) restoreStream(ctx context.Context, pipe redis.Pipeliner) {
	key := string(v.Key)
	for _, e := range v.Entries {
		pipe.Do(ctx, append([]any{"XADD", key, e.ID}, arguments(e.Items)...)...)
	}
	for _, g := range v.Groups {
		pipe.XGroupCreateMkStream(ctx, key, g.Name, g.Last)
		for _, c := range g.Consumers {
			pipe.XGroupCreateConsumer(ctx, key, g.Name, c)
		}
		for _, p := range g.Pending {
			pipe.Do(ctx, "XCLAIM", key, g.Name, p.Consumer, 0, p.ID, "TIME", p.At, "RETRYCOUNT", p.Deliveries, "FORCE", "JUSTID")
		}
	}
}

func raw(items []string) [][]byte {
	all := make([][]byte, len(items))
	for i, s := range items {
		all[i] = []byte(s)
	}
	return all
}

func arguments(items [][]byte) []any {
	all := make([]any, len(items))
	for i, b := range items {
		all[i] = b
	}
	return all
}
