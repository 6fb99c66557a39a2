package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/tasks"
)

// queue is asynq's queue of a lane, as the sweep sees it. asynq's inspector has
// no look at many tasks in one round trip, gives no active task back, and fails
// at one message that it cannot read; so this reads and changes asynq's own keys,
// in the way of asynq v0.26. A test holds it to that.
type queue struct {
	rdb       redis.UniversalClient
	inspector *asynq.Inspector
	client    *asynq.Client
	account   string
	lane      record.Lane
}

// name is what asynq calls it.
func (q queue) name() string { return record.Keys{Account: q.account}.Queue(q.lane) }

func (q queue) key(what string) string { return "asynq:{" + q.name() + "}:" + what }

// states looks at tasks: each one's state, "" where there is no such task. It is
// one round trip.
func (q queue) states(ctx context.Context, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	looks := make([]*redis.StringCmd, len(ids))
	_, err := q.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			looks[i] = pipe.HGet(ctx, q.key("t:"+id), "state")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look at the tasks of %s: %w", q.name(), err)
	}
	states := make([]string, len(ids))
	for i, look := range looks {
		if states[i], err = look.Result(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("look at the tasks of %s: %w", q.name(), err)
		}
	}
	return states, nil
}

// active gives the ids of the tasks that a handler has, or had: as many as the
// fleet has slots, and a few.
func (q queue) active(ctx context.Context) ([]string, error) {
	const page = 1000
	var all []string
	for {
		from := int64(len(all))
		ids, err := q.rdb.LRange(ctx, q.key("active"), from, from+page-1).Result()
		if err != nil {
			return nil, fmt.Errorf("read the active tasks of %s: %w", q.name(), err)
		}
		all = append(all, ids...)
		if len(ids) < page {
			return all, nil
		}
	}
}

// archived gives the ids of the oldest archived tasks.
func (q queue) archived(ctx context.Context) ([]string, error) {
	ids, err := q.rdb.ZRange(ctx, q.key("archived"), 0, 99).Result()
	if err != nil {
		return nil, fmt.Errorf("read the archived tasks of %s: %w", q.name(), err)
	}
	return ids, nil
}

// giveBack makes an active task pending, before the others, as asynq's recoverer
// does some time later. It gives nothing back whose message is not there.
func (q queue) giveBack(ctx context.Context, id string) error {
	const script = `
if redis.call('HEXISTS', KEYS[1], 'msg') == 0 or redis.call('LREM', KEYS[2], 0, ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'pending')
redis.call('RPUSH', KEYS[4], ARGV[1])
return 1`
	keys := []string{q.key("t:" + id), q.key("active"), q.key("lease"), q.key("pending")}
	if err := redis.NewScript(script).Run(ctx, q.rdb, keys, id).Err(); err != nil {
		return fmt.Errorf("give a task of %s back: %w", q.name(), err)
	}
	return nil
}

// raw gives a task's message as asynq stores it.
func (q queue) raw(ctx context.Context, id string) ([]byte, error) {
	raw, err := q.rdb.HGet(ctx, q.key("t:"+id), "msg").Bytes()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read a task of %s: %w", q.name(), err)
	}
	return raw, nil
}

// remove takes an active or archived task away, readable or not.
func (q queue) remove(ctx context.Context, id string) error {
	_, err := q.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.LRem(ctx, q.key("active"), 0, id)
		pipe.ZRem(ctx, q.key("lease"), id)
		pipe.ZRem(ctx, q.key("archived"), id)
		pipe.Del(ctx, q.key("t:"+id))
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove a task of %s: %w", q.name(), err)
	}
	return nil
}

// readable says whether asynq can read the task's message.
func (q queue) readable(id string) bool {
	info, err := q.inspector.GetTaskInfo(q.name(), id)
	return err == nil && info.ID == id
}

// run makes a task pending that asynq has put off or archived. Another may have
// been faster.
func (q queue) run(ctx context.Context, id string) error {
	err := q.inspector.RunTask(q.name(), id)
	if err == nil || errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
		return nil
	}
	if now, look := q.states(ctx, []string{id}); look == nil && (now[0] == "pending" || now[0] == "active") {
		return nil
	}
	return fmt.Errorf("run a task of %s: %w", q.name(), err)
}

func (q queue) dispatch(ctx context.Context, ref record.Ref) error {
	return tasks.Dispatch(ctx, q.client, q.account, q.lane, ref)
}
