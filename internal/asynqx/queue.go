package asynqx

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
)

// Queue is asynq's queue of one lane. asynq's Inspector cannot read many tasks in one
// round trip, cannot return an active task to its queue, and fails on the first message
// that it cannot decode; a Queue can, by reading and changing asynq's own keys.
type Queue struct {
	rdb       redis.UniversalClient
	inspector *asynq.Inspector
	lane      request.Lane
	name      string
}

// NewQueue returns the queue of a lane of an account.
func NewQueue(rdb redis.UniversalClient, account string, lane request.Lane) Queue {
	return Queue{rdb, asynq.NewInspectorFromRedisClient(rdb), lane, keyspace.Keys{Account: account}.Queue(lane)}
}

// Name returns asynq's name of the queue.
func (q Queue) Name() string { return q.name }

// Lane returns the lane of the queue.
func (q Queue) Lane() request.Lane { return q.lane }

func (q Queue) key(what string) string { return key(q.name, what) }

// States returns the state of each task, "" for a task that does not exist, in one round
// trip.
func (q Queue) States(ctx context.Context, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	commands := make([]*redis.StringCmd, len(ids))
	_, err := q.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			commands[i] = pipe.HGet(ctx, q.key("t:"+id), "state")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the task states of %s: %w", q.name, err)
	}
	states := make([]string, len(ids))
	for i, command := range commands {
		if states[i], err = command.Result(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("read the task states of %s: %w", q.name, err)
		}
	}
	return states, nil
}

// Active returns the ids of the tasks that a handler has, or had when its process died.
func (q Queue) Active(ctx context.Context) ([]string, error) {
	const page = 1000
	var all []string
	for {
		from := int64(len(all))
		ids, err := q.rdb.LRange(ctx, q.key("active"), from, from+page-1).Result()
		if err != nil {
			return nil, fmt.Errorf("read the active tasks of %s: %w", q.name, err)
		}
		all = append(all, ids...)
		if len(ids) < page {
			return all, nil
		}
	}
}

// Archived returns the ids of the oldest archived tasks.
func (q Queue) Archived(ctx context.Context) ([]string, error) {
	ids, err := q.rdb.ZRange(ctx, q.key("archived"), 0, 99).Result()
	if err != nil {
		return nil, fmt.Errorf("read the archived tasks of %s: %w", q.name, err)
	}
	return ids, nil
}

// Message is a task as asynq stores it. Both fields are empty if there is no such task.
type Message struct{ State, Raw string }

// Message returns a task.
func (q Queue) Message(ctx context.Context, id string) (m Message, err error) {
	values, err := q.rdb.HMGet(ctx, q.key("t:"+id), "state", "msg").Result()
	if err != nil {
		return m, fmt.Errorf("read a task of %s: %w", q.name, err)
	}
	return message(values), nil
}

// Readable reports whether asynq can decode the message as that of the task. It decodes the
// message as asynq does, with the type that asynq has registered. If there is no such type,
// every message counts as readable.
func (m Message) Readable(id string) bool {
	decoded, known := m.decode()
	if !known || decoded == nil {
		return !known
	}
	value := field(decoded, "id")
	return !value.IsValid() || value.String() == id
}

// Payload returns the payload of the task; nil if the message cannot be decoded.
func (m Message) Payload() []byte {
	decoded, _ := m.decode()
	if value := field(decoded, "payload"); value.IsValid() {
		return value.Bytes()
	}
	return nil
}

// id returns the id of the task; "" if the message cannot be decoded.
func (m Message) id() string {
	decoded, _ := m.decode()
	if value := field(decoded, "id"); value.IsValid() {
		return value.String()
	}
	return ""
}

// field returns a field of a decoded message, which may be nil. The result is not valid if
// there is no such field.
func field(decoded protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	if decoded == nil {
		return protoreflect.Value{}
	}
	f := decoded.Descriptor().Fields().ByName(name)
	if f == nil {
		return protoreflect.Value{}
	}
	return decoded.Get(f)
}

// decode decodes the message: nil if that is not possible. known is false if asynq has not
// registered its type.
func (m Message) decode() (decoded protoreflect.Message, known bool) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName("asynq.TaskMessage")
	if err != nil {
		return nil, false
	}
	decoded = kind.New()
	if proto.Unmarshal([]byte(m.Raw), decoded.Interface()) != nil {
		return nil, true
	}
	return decoded, true
}

// Messages returns the tasks that are pending, active or to be retried, by their ids. It is
// for a queue that is known to be short. A task that changes its state meanwhile may be
// missing.
func (q Queue) Messages(ctx context.Context) (map[string]Message, error) {
	var lists [3]*redis.StringSliceCmd
	_, err := q.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		lists[0] = pipe.LRange(ctx, q.key("pending"), 0, -1)
		lists[1] = pipe.LRange(ctx, q.key("active"), 0, -1)
		lists[2] = pipe.ZRange(ctx, q.key("retry"), 0, -1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the tasks of %s: %w", q.name, err)
	}
	commands := map[string]*redis.SliceCmd{}
	_, err = q.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, list := range lists {
			for _, id := range list.Val() {
				commands[id] = pipe.HMGet(ctx, q.key("t:"+id), "state", "msg")
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tasks of %s: %w", q.name, err)
	}
	messages := make(map[string]Message, len(commands))
	for id, command := range commands {
		messages[id] = message(command.Val())
	}
	return messages, nil
}

func message(values []any) (m Message) {
	m.State, _ = values[0].(string)
	m.Raw, _ = values[1].(string)
	return m
}

// Requeue makes an active or archived task pending, ahead of the others. ok is false if the
// task is neither.
func (q Queue) Requeue(ctx context.Context, id string) (ok bool, err error) {
	const script = `
if redis.call('HEXISTS', KEYS[1], 'msg') == 0 then return 0 end
if redis.call('LREM', KEYS[2], 0, ARGV[1]) + redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'pending')
redis.call('RPUSH', KEYS[5], ARGV[1])
return 1`
	ok, err = redis.NewScript(script).Run(ctx, q.rdb, append(q.held(id), q.key("pending")), id).Bool()
	if err != nil {
		return false, fmt.Errorf("requeue a task of %s: %w", q.name, err)
	}
	return ok, nil
}

// Remove deletes an active or archived task if it has not changed since it was read,
// whether it can be decoded or not. ok is false if it has changed.
func (q Queue) Remove(ctx context.Context, id string, seen Message) (ok bool, err error) {
	const script = `
local task = redis.call('HMGET', KEYS[1], 'state', 'msg')
if (task[1] or '') ~= ARGV[2] or (task[2] or '') ~= ARGV[3] then return 0 end
if redis.call('LREM', KEYS[2], 0, ARGV[1]) + redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[1])
return 1`
	ok, err = redis.NewScript(script).Run(ctx, q.rdb, q.held(id), id, seen.State, seen.Raw).Bool()
	if err != nil {
		return false, fmt.Errorf("remove a task of %s: %w", q.name, err)
	}
	return ok, nil
}

// held returns the keys of a task, and of the sets that it is in while it is active or
// archived.
func (q Queue) held(id string) []string {
	return []string{q.key("t:" + id), q.key("active"), q.key("lease"), q.key("archived")}
}

// Run makes a scheduled task, or one that waits for its retry, pending. It succeeds if
// another process was faster, or if there is no such task.
func (q Queue) Run(ctx context.Context, id string) error {
	err := q.inspector.RunTask(q.name, id)
	if err == nil || missing(err) {
		return nil
	}
	if now, readErr := q.States(ctx, []string{id}); readErr == nil && (now[0] == "pending" || now[0] == "active") {
		return nil
	}
	return fmt.Errorf("run a task of %s: %w", q.name, err)
}

// Delete deletes a task that is not active, if it exists.
func (q Queue) Delete(id string) error {
	if err := q.inspector.DeleteTask(q.name, id); err != nil && !missing(err) {
		return fmt.Errorf("delete a task of %s: %w", q.name, err)
	}
	return nil
}

func missing(err error) bool {
	return errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound)
}
