package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var clientHeartbeatScript = scripts.Script("client_heartbeat.lua")

// ErrUnwritten says that this process has sent no heartbeat yet.
var ErrNoHeartbeat = errors.New("nothing was written to Redis yet")

// writtenWithin is how old the last heartbeat may be: several that are missing.
const maxHeartbeatAge = 10 * time.Second

// written is the last heartbeat.
type heartbeatResult struct {
	at  time.Time
	err error
}

// Touch is the heartbeat of a process that is no worker: a write, which shows whether Redis
// accepts any. It fails with [*EmptiedError], once, if the ledger is not that of the
// previous heartbeat.
func (m *Member) ClientHeartbeat(ctx context.Context) error {
	id, err := clientHeartbeatScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, nil).Text()
	m.lastHeartbeat.Store(&heartbeatResult{time.Now(), err})
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if before := m.clientLedger.Swap(&id); before != nil && *before != "" && *before != id {
		return &EmptiedError{m.keys.Account}
	}
	return nil
}

// Written returns why Redis accepts no writes of this process, for people and without a
// secret; nil if the last heartbeat succeeded.
func (m *Member) WriteError() error {
	last := m.lastHeartbeat.Load()
	if last == nil {
		return ErrNoHeartbeat
	}
	refused, answered := errors.AsType[redis.Error](last.err)
	_, emptied := errors.AsType[*EmptiedError](last.err)
	switch {
	case emptied:
		return errors.New("the account's data is gone from Redis")
	case answered:
		code, _, _ := strings.Cut(refused.Error(), " ")
		return fmt.Errorf("writes are refused by Redis (%s)", code)
	case last.err != nil || time.Since(last.at) > maxHeartbeatAge:
		return errors.New("no answer from Redis")
	}
	return nil
}
