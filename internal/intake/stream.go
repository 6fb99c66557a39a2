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

// Limits of one read, since producers may add large entries.
const (
	readBytes  = 1 << 20
	maxEntry   = 32 << 10 // bytes of names and values; a larger entry is rejected
	keptFields = 20       // fields of a larger entry in its reject
	keptText   = 256      // bytes of each name and value in it
)

var (
	readScript   = scripts.Script("read.lua")
	settleScript = scripts.Script("settle.lua")
)

// read returns new entries, and waits for one if there is none.
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

// await returns the id of the next entry, or "" after block. The entry itself is read by
// its id, within the limits.
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

// noGroup reports whether the group is missing. In a script's error the code is not first.
func noGroup(err error) bool { return err != nil && strings.Contains(err.Error(), "NOGROUP") }

// fetch returns entries within the limits: new ones, or those with the ids, and how many
// of these it examined. It parses the reply itself: go-redis would make a map of an
// entry's fields, and lose a field that is given twice.
func (i *Intake) fetch(ctx context.Context, count int, ids ...string) (entries []rawEntry, examined int, err error) {
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

// join creates the group and the stream if they are missing. The group starts with the
// oldest entry, since settled entries are deleted.
func (i *Intake) join(ctx context.Context) error {
	err := i.rdb.XGroupCreateMkStream(ctx, i.keys.Requests(), group, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return fmt.Errorf("create the group of the intake stream: %w", err)
	}
	return nil
}

// claim touches the entries that wait here, and claims those of dead processes.
func (i *Intake) claim(ctx context.Context) error {
	if err := i.touch(ctx, 0); err != nil {
		return err
	}
	for next := "0-0"; ; {
		room := maxWaiting - len(i.ids)
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
			return fmt.Errorf("claim entries of the intake stream: %w", err)
		}
		for len(ids) > 0 {
			examined, err := i.takeByID(ctx, ids)
			if err != nil {
				return err
			}
			ids = ids[examined:]
		}
		if next == "0-0" {
			return nil
		}
	}
}

// takeByID takes the first entries of ids, as many as the limits of a read allow.
func (i *Intake) takeByID(ctx context.Context, ids []string) (examined int, err error) {
	entries, examined, err := i.fetch(ctx, len(ids), ids...)
	if err != nil {
		return 0, err
	}
	if examined == 0 {
		return 0, errReply
	}
	if entries, err = i.withoutGone(ctx, entries); err != nil {
		return 0, err
	}
	return examined, i.take(ctx, entries)
}

// byID reads entries that were delivered to this process.
func (i *Intake) byID(ctx context.Context, ids []string) ([]rawEntry, error) {
	entries, _, err := i.fetch(ctx, len(ids), ids...)
	if err != nil {
		return nil, err
	}
	return i.withoutGone(ctx, entries)
}

// withoutGone returns the entries that still exist, and acknowledges the others, which were
// settled or deleted.
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

// touch sets the idle time of the entries that wait here.
func (i *Intake) touch(ctx context.Context, idle time.Duration) error {
	var ids []string
	for _, kept := range i.waiting {
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
			return fmt.Errorf("touch entries of the intake stream: %w", err)
		}
	}
	return nil
}

// release lets other processes immediately claim the entries that wait here.
func (i *Intake) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := i.touch(ctx, i.cfg.ClaimAfter); err != nil {
		i.cfg.Log.Warn("intake entries not released, other workers claim them later",
			zap.Duration("after", i.cfg.ClaimAfter), zap.Error(err))
	}
}

// settle removes entries from the stream, and adds those that were rejected to the rejects.
func (i *Intake) settle(ctx context.Context, all []outcome) error {
	for part := range slices.Chunk(all, perAccept) {
		rows := lua.NewRows("id", "reason", "message", "original")
		for _, o := range part {
			rows.Add(o.id, o.reason, o.message, o.original)
			if o.reason != "" {
				i.cfg.Limited.Warn("intake entry rejected", zap.String("entry", o.id), zap.String("reason", o.reason),
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

var errReply = errors.New("read the intake stream: unexpected reply from Redis")

// entryOf parses the script's reply for one entry.
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
