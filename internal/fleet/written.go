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

// ErrUnwritten says that this process has written no heartbeat yet.
var ErrUnwritten = errors.New("nothing was written to Redis yet")

// writtenWithin is how old the last heartbeat may be: several that are missing.
const writtenWithin = 10 * time.Second

// written is the last heartbeat.
type written struct {
	at  time.Time
	err error
}

// Touch is the heartbeat of a process that is no worker: a write, which shows
// whether Redis takes any. It fails with [*EmptiedError], once, where the ledger is
// not the one of the heartbeat before.
func (m *Member) Touch(ctx context.Context) error {
	id, err := clientHeartbeatScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, nil).Text()
	m.written.Store(&written{time.Now(), err})
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if before := m.touched.Swap(&id); before != nil && *before != "" && *before != id {
		return &EmptiedError{m.keys.Account}
	}
	return nil
}

// Written says, for people and without a secret, why Redis takes no writes of this
// process; nil while it does, as the last heartbeat tells.
func (m *Member) Written() error {
	last := m.written.Load()
	if last == nil {
		return ErrUnwritten
	}
	refused, answered := errors.AsType[redis.Error](last.err)
	_, emptied := errors.AsType[*EmptiedError](last.err)
	switch {
	case emptied:
		return errors.New("the account's data is gone from Redis")
	case answered:
		code, _, _ := strings.Cut(refused.Error(), " ")
		return fmt.Errorf("writes are refused by Redis (%s)", code)
	case last.err != nil || time.Since(last.at) > writtenWithin:
		return errors.New("no answer from Redis")
	}
	return nil
}
