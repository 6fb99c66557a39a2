package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// queue is asynq's queue of a lane, as the sweep sees it. asynq's inspector has
// no look at many tasks in one round trip, gives no active task back, and fails
// at one message that it cannot read; so this reads and changes asynq's own keys,
// in the way of asynq v0.26. TestTheQueueIsAsAsynqKeepsIt holds it to that.
type queue struct {
	rdb       redis.UniversalClient
	inspector *asynq.Inspector
	client    *asynq.Client
	account   string
	lane      request.Lane
}

// name is what asynq calls it.
func (q queue) name() string { return keyspace.Keys{Account: q.account}.Queue(q.lane) }

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

// message is a task as asynq stores it; both are empty where there is none.
type message struct{ state, raw string }

func (q queue) look(ctx context.Context, id string) (m message, err error) {
	values, err := q.rdb.HMGet(ctx, q.key("t:"+id), "state", "msg").Result()
	if err != nil {
		return m, fmt.Errorf("read a task of %s: %w", q.name(), err)
	}
	m.state, _ = values[0].(string)
	m.raw, _ = values[1].(string)
	return m, nil
}

// readable says whether asynq can read the message as that of the task: it is
// decoded as asynq does it, by the type that asynq has registered. Where there is
// no such type, nothing is held against a message.
func (m message) readable(id string) bool {
	kind, err := protoregistry.GlobalTypes.FindMessageByName("asynq.TaskMessage")
	if err != nil {
		return true
	}
	decoded := kind.New()
	if proto.Unmarshal([]byte(m.raw), decoded.Interface()) != nil {
		return false
	}
	field := kind.Descriptor().Fields().ByName("id")
	return field == nil || decoded.Get(field).String() == id
}

// giveBack makes an active or archived task pending, before the others. ok is
// false where it is neither any more.
func (q queue) giveBack(ctx context.Context, id string) (ok bool, err error) {
	const script = `
if redis.call('HEXISTS', KEYS[1], 'msg') == 0 then return 0 end
if redis.call('LREM', KEYS[2], 0, ARGV[1]) + redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'pending')
redis.call('RPUSH', KEYS[5], ARGV[1])
return 1`
	ok, err = redis.NewScript(script).Run(ctx, q.rdb, append(q.held(id), q.key("pending")), id).Bool()
	if err != nil {
		return false, fmt.Errorf("give a task of %s back: %w", q.name(), err)
	}
	return ok, nil
}

// remove takes an active or archived task away that is as it was seen, readable
// or not. ok is false where it is not so any more.
func (q queue) remove(ctx context.Context, id string, seen message) (ok bool, err error) {
	const script = `
local task = redis.call('HMGET', KEYS[1], 'state', 'msg')
if (task[1] or '') ~= ARGV[2] or (task[2] or '') ~= ARGV[3] then return 0 end
if redis.call('LREM', KEYS[2], 0, ARGV[1]) + redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[1])
return 1`
	ok, err = redis.NewScript(script).Run(ctx, q.rdb, q.held(id), id, seen.state, seen.raw).Bool()
	if err != nil {
		return false, fmt.Errorf("remove a task of %s: %w", q.name(), err)
	}
	return ok, nil
}

// held names the task, and the sets that it is in while a handler has it, or
// nobody is to.
func (q queue) held(id string) []string {
	return []string{q.key("t:" + id), q.key("active"), q.key("lease"), q.key("archived")}
}

// run makes a task pending that asynq has put off. Another may have been faster.
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

func (q queue) dispatch(ctx context.Context, ref request.Ref) error {
	return linktask.Enqueue(ctx, q.client, q.account, q.lane, ref)
}

// renew enqueues a task anew that asynq keeps in a state that it does not leave
// by itself, such as completed.
func (q queue) renew(ctx context.Context, ref request.Ref) error {
	err := q.inspector.DeleteTask(q.name(), ref.String())
	if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
		return fmt.Errorf("remove a task of %s: %w", q.name(), err)
	}
	return q.dispatch(ctx, ref)
}
