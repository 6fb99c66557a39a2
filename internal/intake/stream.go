package intake

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/lua"
)

// Bounds of what is read at a time: whoever may add entries may add large ones.
const (
	readBytes  = 1 << 20
	maxEntry   = 32 << 10 // bytes of names and values; a larger entry is rejected
	keptFields = 20       // fields of a larger entry that its reject shows, and
	keptText   = 256      // bytes of each name and value
)

var (
	readScript   = scripts.Script("read.lua")
	settleScript = scripts.Script("settle.lua")
)

// read gives what nobody was given yet, and waits for it where there is nothing.
func (i *Intake) read(ctx context.Context, count int, block time.Duration) ([]rawEntry, error) {
	entries, _, err := i.fetch(ctx, count)
	if err != nil || len(entries) > 0 {
		return entries, err
	}
	id, err := i.await(ctx, block)
	if err != nil || id == "" {
		return nil, err
	}
	return i.byID(ctx, []string{id})
}

// await gives the id of the next entry once there is one; empty after block. What
// else the reply says is read by its id, as that heeds its size.
func (i *Intake) await(ctx context.Context, block time.Duration) (string, error) {
	streams, err := i.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: consumer, Streams: []string{i.keys.Requests(), ">"}, Count: 1, Block: block,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", nil
	case noGroup(err):
		return "", i.join(ctx)
	case err != nil:
		return "", fmt.Errorf("read the intake stream: %w", err)
	}
	for _, stream := range streams {
		for _, entry := range stream.Messages {
			return entry.ID, nil
		}
	}
	return "", nil
}

// noGroup says that the group is not there; a script says so in the midst of its error.
func noGroup(err error) bool { return err != nil && strings.Contains(err.Error(), "NOGROUP") }

// fetch gives entries within the bounds: new ones, or those with the ids, of which it
// gives how many it looked at. The reply is taken as it is: go-redis would make a map of
// an entry's fields, in which one that is given twice is lost.
func (i *Intake) fetch(ctx context.Context, count int, ids ...string) (entries []rawEntry, looked int, err error) {
	reply, err := readScript.Run(ctx, i.rdb, []string{i.keys.Requests()}, lua.Args{
		"group": group, "consumer": consumer, "count": count, "max_bytes": readBytes, "max_entry": maxEntry,
		"max_fields": keptFields, "max_text": keptText,
	}, lua.Column("id", ids)).Slice()
	if noGroup(err) {
		return nil, 0, i.join(ctx)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the intake stream: %w", err)
	}
	for _, item := range reply {
		r, err := entryOf(item)
		if err != nil {
			return nil, 0, err
		}
		entries = append(entries, r)
	}
	return entries, len(reply), nil
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
		if noGroup(err) {
			return i.join(ctx)
		}
		if err != nil {
			return fmt.Errorf("claim what was left of the intake stream: %w", err)
		}
		for len(ids) > 0 {
			looked, err := i.takeByID(ctx, ids)
			if err != nil {
				return err
			}
			ids = ids[looked:]
		}
		if next == "0-0" {
			return nil
		}
	}
}

// takeByID takes the first of ids, as many as fit.
func (i *Intake) takeByID(ctx context.Context, ids []string) (looked int, err error) {
	entries, looked, err := i.fetch(ctx, len(ids), ids...)
	if err != nil {
		return 0, err
	}
	if looked == 0 {
		return 0, errReply
	}
	if entries, err = i.withoutGone(ctx, entries); err != nil {
		return 0, err
	}
	return looked, i.take(ctx, entries)
}

// byID reads entries that this process was given.
func (i *Intake) byID(ctx context.Context, ids []string) ([]rawEntry, error) {
	entries, _, err := i.fetch(ctx, len(ids), ids...)
	if err != nil {
		return nil, err
	}
	return i.withoutGone(ctx, entries)
}

// withoutGone leaves out what is not there any more: it was settled, or somebody
// deleted it. It is acknowledged.
func (i *Intake) withoutGone(ctx context.Context, entries []rawEntry) ([]rawEntry, error) {
	var there []rawEntry
	var gone []outcome
	for _, e := range entries {
		if e.gone {
			gone = append(gone, outcome{id: e.id})
		} else {
			there = append(there, e)
		}
	}
	return there, i.settle(ctx, gone)
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
		if err != nil && !noGroup(err) {
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
		rows := lua.NewRows("id", "reason", "message", "original")
		for _, o := range part {
			rows.Add(o.id, o.reason, o.message, o.original)
			if o.reason != "" {
				i.cfg.Limited.Warn("an entry of the intake stream is rejected", zap.String("entry", o.id), zap.String("reason", o.reason),
					zap.String("rejects", i.keys.Rejects()))
			}
		}
		counts, err := settleScript.Run(ctx, i.rdb, []string{i.keys.Requests(), i.keys.Rejects()}, lua.Args{
			"group": group, "max_rejects": maxRejects, "max_reject_bytes": maxRejectBytes,
		}, rows).Int64Slice()
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

// entryOf reads what the script says of one entry.
func entryOf(item any) (r rawEntry, err error) {
	parts, ok := item.([]any)
	if !ok || len(parts) == 0 {
		return r, errReply
	}
	if r.id, ok = parts[0].(string); !ok {
		return r, errReply
	}
	if r.gone = len(parts) == 1; r.gone {
		return r, nil
	}
	flat, ok := parts[1].([]any)
	if !ok || len(flat)%2 != 0 {
		return r, errReply
	}
	if len(parts) > 2 {
		r.size, _ = parts[2].(int64)
	}
	r.fields = make([]Field, len(flat)/2)
	for n := range r.fields {
		r.fields[n] = Field{fmt.Sprint(flat[2*n]), fmt.Sprint(flat[2*n+1])}
	}
	return r, nil
}
