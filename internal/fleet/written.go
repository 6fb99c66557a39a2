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

// ErrNoHeartbeat says that this process has sent no heartbeat yet.
var ErrNoHeartbeat = errors.New("no heartbeat was sent to Redis yet")

// maxHeartbeatAge is the age at which the latest heartbeat counts as failed.
const maxHeartbeatAge = 10 * time.Second

// heartbeatResult is the result of a heartbeat.
type heartbeatResult struct {
	at  time.Time
	err error
}

// ClientHeartbeat is the heartbeat of a process that is not a worker: a write, which shows
// whether Redis accepts writes. It fails once with [*EmptiedError] if the ledger has changed
// since the previous heartbeat.
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

// WriteError returns why Redis does not accept writes of this process, for people and without
// secrets; nil if the latest heartbeat succeeded.
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
