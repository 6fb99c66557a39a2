package account

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Memory is the memory of the Redis server that stores the account, in bytes. Both are 0 if
// this process may not read them.
type Memory struct {
	Used int64
	Max  int64 // 0: it has no limit
}

func (a *Reader) memory(ctx context.Context) (m Memory, err error) {
	node, err := a.keys.Node(ctx, a.rdb)
	if err != nil {
		return m, err
	}
	info, err := node.Info(ctx, "memory").Result()
	if refused := (redis.Error)(nil); errors.As(err, &refused) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read the memory of Redis: %w", err)
	}
	for line := range strings.SplitSeq(info, "\n") {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_memory":
			m.Used, _ = strconv.ParseInt(value, 10, 64)
		case "maxmemory":
			m.Max, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return m, nil
}
