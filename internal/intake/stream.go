package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// read waits for what nobody was given yet. The reply is taken as it is: go-redis
// would make a map of an entry's fields, in which one that is given twice is lost.
func (i *Intake) read(ctx context.Context, count int, block time.Duration) ([]rawEntry, error) {
	cmd := redis.NewCmd(ctx, "XREADGROUP", "GROUP", group, consumer, "COUNT", count, "BLOCK", block.Milliseconds(),
		"STREAMS", i.keys.Requests(), ">")
	cmd.SetFirstKeyPos(9)
	reply, err := processed(ctx, i.rdb, cmd)
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil && strings.HasPrefix(err.Error(), "NOGROUP"):
		return nil, i.join(ctx)
	case err != nil:
		return nil, fmt.Errorf("read the intake stream: %w", err)
	}
	return streamEntries(reply)
}

func processed(ctx context.Context, rdb redis.UniversalClient, cmd *redis.Cmd) (any, error) {
	if err := rdb.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Result()
}

// join makes the group, and the stream, where they are not there: from the oldest
// entry on, as what was settled is deleted.
func (i *Intake) join(ctx context.Context) error {
	err := i.rdb.XGroupCreateMkStream(ctx, i.keys.Requests(), group, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return fmt.Errorf("make the intake stream's group: %w", err)
	}
	return nil
}

// claim says that what is kept here is not left, and takes what others left.
func (i *Intake) claim(ctx context.Context) error {
	if err := i.touch(ctx, 0); err != nil {
		return err
	}
	for next := "0-0"; ; {
		room := keptMost - len(i.ids)
		if room <= 0 {
			return nil
		}
		var ids []string
		var err error
		ids, next, err = i.rdb.XAutoClaimJustID(ctx, &redis.XAutoClaimArgs{
			Stream: i.keys.Requests(), Group: group, Consumer: consumer, MinIdle: i.cfg.ClaimAfter, Start: next, Count: int64(min(room, perRead)),
		}).Result()
		if err != nil && strings.HasPrefix(err.Error(), "NOGROUP") {
			return i.join(ctx)
		}
		if err != nil {
			return fmt.Errorf("claim what was left of the intake stream: %w", err)
		}
		entries, err := i.byID(ctx, ids)
		if err != nil {
			return err
		}
		if err := i.take(ctx, entries); err != nil || next == "0-0" {
			return err
		}
	}
}

// byID reads entries again. One that is not there any more was settled, or somebody
// deleted it: it is acknowledged.
func (i *Intake) byID(ctx context.Context, ids []string) ([]rawEntry, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	found := make([]*redis.Cmd, len(ids))
	_, err := i.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for n, id := range ids {
			found[n] = redis.NewCmd(ctx, "XRANGE", i.keys.Requests(), id, id)
			_ = pipe.Process(ctx, found[n]) // it fails with the pipeline
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read entries of the intake stream: %w", err)
	}
	var entries []rawEntry
	var gone []outcome
	for n, id := range ids {
		some, err := entriesOf(found[n].Val())
		if err != nil {
			return nil, err
		}
		if entries = append(entries, some...); len(some) == 0 {
			gone = append(gone, outcome{id: id})
		}
	}
	return entries, i.settle(ctx, gone)
}

// touch says of what is kept for how long nobody spoke of it.
func (i *Intake) touch(ctx context.Context, idle time.Duration) error {
	var ids []string
	for _, kept := range i.kept {
		for _, e := range kept {
			ids = append(ids, e.id)
		}
	}
	for part := range slices.Chunk(ids, perRead) {
		args := []any{"XCLAIM", i.keys.Requests(), group, consumer, 0}
		for _, id := range part {
			args = append(args, id)
		}
		err := i.rdb.Do(ctx, append(args, "IDLE", idle.Milliseconds(), "JUSTID")...).Err()
		if err != nil && !strings.HasPrefix(err.Error(), "NOGROUP") {
			return fmt.Errorf("keep entries of the intake stream: %w", err)
		}
	}
	return nil
}

// giveBack lets others have at once what this process will not accept any more.
func (i *Intake) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := i.touch(ctx, i.cfg.ClaimAfter); err != nil {
		i.cfg.Log.Warn("what this worker read of the intake stream and could not accept goes to others a little later",
			zap.Duration("after", i.cfg.ClaimAfter), zap.Error(err))
	}
}

// settle takes entries off the stream, and keeps those that were rejected.
func (i *Intake) settle(ctx context.Context, all []outcome) error {
	for part := range slices.Chunk(all, perAccept) {
		args := append(make([]any, 0, 2+4*len(part)), group, maxRejects)
		for _, o := range part {
			args = append(args, o.id, o.reason, o.message, o.original)
			if o.reason != "" {
				i.cfg.Limited.Warn("an entry of the intake stream is rejected", zap.String("entry", o.id), zap.String("reason", o.reason),
					zap.String("rejects", i.keys.Rejects()))
			}
		}
		counts, err := i.settles.Run(ctx, i.rdb, []string{i.keys.Requests(), i.keys.Rejects()}, args...).Int64Slice()
		if err != nil {
			return fmt.Errorf("settle entries of the intake stream: %w", err)
		}
		if i.cfg.Settled != nil {
			i.cfg.Settled(int(counts[0]), int(counts[1]))
		}
	}
	return nil
}

var errReply = errors.New("the intake stream: Redis gave a reply of an unknown shape")

// streamEntries reads what XREADGROUP says of its one stream: a map in RESP3, pairs
// in RESP2.
func streamEntries(reply any) ([]rawEntry, error) {
	switch r := reply.(type) {
	case map[any]any:
		for _, entries := range r {
			return entriesOf(entries)
		}
	case []any:
		if len(r) == 1 {
			if pair, ok := r[0].([]any); ok && len(pair) == 2 {
				return entriesOf(pair[1])
			}
		}
	case nil:
		return nil, nil
	}
	return nil, errReply
}

// entriesOf reads a list of entries.
func entriesOf(reply any) ([]rawEntry, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, errReply
	}
	var entries []rawEntry
	for _, item := range list {
		pair, ok := item.([]any)
		if !ok || len(pair) != 2 {
			return nil, errReply
		}
		if pair[1] == nil {
			continue // deleted since
		}
		id, isText := pair[0].(string)
		flat, isList := pair[1].([]any)
		if !isText || !isList || len(flat)%2 != 0 {
			return nil, errReply
		}
		r := rawEntry{id: id, fields: make([]Field, len(flat)/2)}
		for n := range r.fields {
			r.fields[n] = Field{fmt.Sprint(flat[2*n]), fmt.Sprint(flat[2*n+1])}
		}
		entries = append(entries, r)
	}
	return entries, nil
}
