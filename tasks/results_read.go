package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
)

const (
	minRetryPause = 100 * time.Millisecond // while Redis is unreachable
	maxRetryPause = 5 * time.Second
	idleLimit     = 24 * time.Hour // after which a consumer without pending entries is removed
	maxClaims     = 100            // commands of one search for abandoned entries
)

// read takes entries: first those that an earlier process with this name did not
// acknowledge, then those of dead consumers, then new ones.
func (s *session) read(drain bool) {
	ctx := s.stopping
	if !s.retry(ctx, s.join) || !s.retry(ctx, s.own) {
		return
	}
	var claimed time.Time
	for ctx.Err() == nil {
		if time.Since(claimed) >= s.cfg.ClaimAfter/3 {
			if !s.retry(ctx, s.claim) {
				return
			}
			claimed = time.Now()
		}
		var got int
		if !s.retry(ctx, func(ctx context.Context) (err error) {
			got, err = s.fresh(ctx, drain)
			return err
		}) {
			return
		}
		if drain && got == 0 {
			return
		}
	}
}

// refusedError ends a session: Redis' access control refuses a command, which does not
// change by itself.
type refusedError struct {
	group string
	err   error
}

func (e *refusedError) Error() string { return fmt.Sprintf("results: group %s: %v", e.group, e.err) }
func (e *refusedError) Unwrap() error { return e.err }

// retry repeats do while Redis is unreachable. It returns false if ctx has ended, or if
// Redis refuses the command, which ends the session.
func (s *session) retry(ctx context.Context, do func(ctx context.Context) error) bool {
	for pause := minRetryPause; ; pause = min(2*pause, maxRetryPause) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		if redis.HasErrorPrefix(err, "NOPERM") {
			s.fail(&refusedError{s.cfg.Group, err})
			return false
		}
		s.cfg.OnError(fmt.Errorf("results: group %s: %w; retrying in %v", s.cfg.Group, err, pause))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// join creates the group if it does not exist.
func (s *session) join(ctx context.Context) error {
	from := s.cfg.From
	if last, some := s.last.Load().(string); some && from == "$" {
		from = last
	}
	err := s.rdb.XGroupCreateMkStream(ctx, s.stream, s.cfg.Group, from).Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return err
	}
	return nil
}

// own takes the entries that this consumer has not acknowledged.
func (s *session) own(ctx context.Context) error {
	for after := "0"; ; {
		room, err := s.pending.capacity(ctx, 1)
		if err != nil {
			return err
		}
		entries, err := s.group(ctx, after, room, -1)
		if err != nil || len(entries) == 0 {
			return err
		}
		after = entries[len(entries)-1].ID
		s.take(entries)
	}
}

// fresh takes new entries and returns their number.
func (s *session) fresh(ctx context.Context, drain bool) (int, error) {
	room, err := s.pending.capacity(ctx, s.most)
	if err != nil {
		return 0, err
	}
	block := readBlock
	if drain {
		block = -1 // do not wait
	}
	entries, err := s.group(ctx, ">", room, block)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	s.last.Store(entries[len(entries)-1].ID)
	s.take(entries)
	return len(entries), nil
}

func (s *session) group(ctx context.Context, after string, count int, block time.Duration) ([]redis.XMessage, error) {
	streams, err := s.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: s.cfg.Group, Consumer: s.cfg.Consumer, Streams: []string{s.stream, after},
		Count: int64(count), Block: block,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil) || err == nil && len(streams) == 0:
		return nil, nil
	case err != nil && strings.HasPrefix(err.Error(), "NOGROUP"):
		// Redis lost the group, or it was destroyed. Start again: twice is better than never.
		return nil, s.join(ctx)
	case err != nil:
		return nil, err
	}
	return streams[0].Messages, nil
}

// claim takes the entries of consumers that have been silent too long, and those that this
// one received in a lost reply. It claims IDs first and then reads the entries, because
// older versions of Redis return nil for trimmed entries.
func (s *session) claim(ctx context.Context) error {
	for next, i := "0-0", 0; i < maxClaims; i++ {
		room, err := s.pending.capacity(ctx, 1)
		if err != nil {
			return err
		}
		var ids []string
		ids, next, err = s.rdb.XAutoClaimJustID(ctx, &redis.XAutoClaimArgs{
			Stream: s.stream, Group: s.cfg.Group, Consumer: s.cfg.Consumer,
			MinIdle: s.cfg.ClaimAfter, Start: next, Count: int64(room),
		}).Result()
		if err != nil {
			return err
		}
		entries, err := s.entries(ctx, ids)
		if err != nil {
			return err
		}
		if s.take(entries); next == "0-0" {
			break
		}
	}
	return removeIdleConsumersScript.Run(ctx, s.rdb, []string{s.stream}, lua.Args{
		"group": s.cfg.Group, "min_idle": idleLimit.Milliseconds(),
	}).Err()
}

// entries reads entries by ID. Trimmed entries are empty.
func (s *session) entries(ctx context.Context, ids []string) ([]redis.XMessage, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	found := make([]*redis.XMessageSliceCmd, len(ids))
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			found[i] = pipe.XRange(ctx, s.stream, id, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries := make([]redis.XMessage, len(ids))
	for i, id := range ids {
		entries[i] = redis.XMessage{ID: id}
		if got := found[i].Val(); len(got) > 0 {
			entries[i] = got[0]
		}
	}
	return entries, nil
}

// heartbeats sends heartbeats until all handlers have returned.
func (s *session) heartbeats() {
	tick := time.NewTicker(s.cfg.ClaimAfter / 3)
	defer tick.Stop()
	for {
		select {
		case <-s.handling.Done():
			return
		case <-tick.C:
		}
		if err := s.heartbeat(s.handling); err != nil && s.handling.Err() == nil {
			s.cfg.OnError(fmt.Errorf("results: group %s: %w", s.cfg.Group, err))
		}
	}
}

// beyond is an ID after every entry. The largest possible ID means ">" to Redis.
const beyond = "18446744073709551615-18446744073709551614"

// heartbeat marks this consumer and its pending entries as active. It reads, because the
// stream is trimmed only past groups that are not live, and some versions of Redis do not
// count an empty blocking read as activity.
func (s *session) heartbeat(ctx context.Context) error {
	if _, err := s.group(ctx, beyond, 1, -1); err != nil {
		return err
	}
	return s.touch(ctx, 0)
}

// touch sets the idle time of the pending entries.
func (s *session) touch(ctx context.Context, idle time.Duration) error {
	for part := range slices.Chunk(s.pending.list(), perCommand) {
		args := []any{"XCLAIM", s.stream, s.cfg.Group, s.cfg.Consumer, 0}
		for _, id := range part {
			args = append(args, id)
		}
		if err := s.rdb.Do(ctx, append(args, "IDLE", idle.Milliseconds(), "JUSTID")...).Err(); err != nil {
			return err
		}
	}
	return nil
}

// releaseUnhandled lets other consumers claim the pending entries at once.
func (s *session) releaseUnhandled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readBlock)
	defer cancel()
	if err := s.touch(ctx, s.cfg.ClaimAfter); err != nil {
		s.cfg.OnError(fmt.Errorf("results: group %s: unhandled events go to other consumers after %v: %w", s.cfg.Group, s.cfg.ClaimAfter, err))
	}
}

// acknowledge acknowledges handled entries, as many as are available per command.
func (s *session) acknowledge() {
	for entries := range s.acks {
		for more := true; more && len(entries) < perCommand; {
			select {
			case next, open := <-s.acks:
				entries, more = append(entries, next...), open
			default:
				more = false
			}
		}
		s.retry(s.handling, func(ctx context.Context) error {
			return s.rdb.XAck(ctx, s.stream, s.cfg.Group, entries...).Err()
		})
		s.pending.drop(entries)
	}
}
