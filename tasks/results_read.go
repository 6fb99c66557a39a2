package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
)

const (
	leastAway = 100 * time.Millisecond // pauses while Redis is away
	mostAway  = 5 * time.Second
	forgotten = 24 * time.Hour // after which a consumer that has nothing is taken off the group
	claimings = 100            // commands of one look for what others left
)

// read takes what is to be handled: first what an earlier process of this name had
// not acknowledged, then what the dead left, then what is new.
func (s *session) read(drain bool) {
	ctx := s.stopping
	if !s.insist(ctx, s.join) || !s.insist(ctx, s.own) {
		return
	}
	var claimed time.Time
	for ctx.Err() == nil {
		if time.Since(claimed) >= s.cfg.ClaimAfter/3 {
			if !s.insist(ctx, s.claim) {
				return
			}
			claimed = time.Now()
		}
		var got int
		if !s.insist(ctx, func(ctx context.Context) (err error) {
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

// insist tries again while Redis is away. It gives false where ctx ended.
func (s *session) insist(ctx context.Context, do func(ctx context.Context) error) bool {
	for pause := leastAway; ; pause = min(2*pause, mostAway) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		s.cfg.OnError(fmt.Errorf("results: group %s: %w; trying again in %v", s.cfg.Group, err, pause))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// join makes the group where it is not there.
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

// own takes what this consumer was given before and did not acknowledge.
func (s *session) own(ctx context.Context) error {
	for after := "0"; ; {
		room, err := s.hand.room(ctx, 1)
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

// fresh takes what nobody was given yet, and gives how many there were.
func (s *session) fresh(ctx context.Context, drain bool) (int, error) {
	room, err := s.hand.room(ctx, s.most)
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
		// Redis lost it, or somebody destroyed it. It begins anew: rather twice than never.
		return nil, s.join(ctx)
	case err != nil:
		return nil, err
	}
	return streams[0].Messages, nil
}

// claim takes what consumers were given that were silent for too long since, and
// also what this one was given in an answer that was lost. Ids are claimed first
// and read then: an older Redis gives nil for an entry that is not kept any more.
func (s *session) claim(ctx context.Context) error {
	for next, i := "0-0", 0; i < claimings; i++ {
		room, err := s.hand.room(ctx, 1)
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
		"group": s.cfg.Group, "min_idle": forgotten.Milliseconds(),
	}).Err()
}

// entries reads them by their ids; those that are not kept any more are empty.
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

// keep tells the group, until all handlers are over, that this consumer lives and
// still has what it has in hand.
func (s *session) keep() {
	tick := time.NewTicker(s.cfg.ClaimAfter / 3)
	defer tick.Stop()
	for {
		select {
		case <-s.handling.Done():
			return
		case <-tick.C:
		}
		if err := s.beat(s.handling); err != nil && s.handling.Err() == nil {
			s.cfg.OnError(fmt.Errorf("results: group %s: %w", s.cfg.Group, err))
		}
	}
}

// beyond is after every entry that there will be; the largest id of all is how
// Redis writes ">".
const beyond = "18446744073709551615-18446744073709551614"

// beat counts as activity also where the group has nothing, and with a Redis for
// which a read that gets nothing is none: the stream is trimmed by whether a group
// lives.
func (s *session) beat(ctx context.Context) error {
	if _, err := s.group(ctx, beyond, 1, -1); err != nil {
		return err
	}
	return s.touch(ctx, 0)
}

// touch says of what is in hand for how long it has been silent.
func (s *session) touch(ctx context.Context, idle time.Duration) error {
	for part := range slices.Chunk(s.hand.list(), perCommand) {
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

// giveBack lets others have at once what this process will not handle any more.
func (s *session) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readBlock)
	defer cancel()
	if err := s.touch(ctx, s.cfg.ClaimAfter); err != nil {
		s.cfg.OnError(fmt.Errorf("results: group %s: what is not handled goes to others after %v: %w", s.cfg.Group, s.cfg.ClaimAfter, err))
	}
}

// acknowledge acknowledges what was done, as many at a time as are there.
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
		s.insist(s.handling, func(ctx context.Context) error {
			return s.rdb.XAck(ctx, s.stream, s.cfg.Group, entries...).Err()
		})
		s.hand.drop(entries)
	}
}

// hand is which entries this process has, up to a limit.
type hand struct {
	most  int
	mu    sync.Mutex
	ids   map[string]struct{}
	freed chan struct{}
}

func newHand(most int) *hand {
	return &hand{most: most, ids: map[string]struct{}{}, freed: make(chan struct{}, 1)}
}

// room waits until it takes some more, and gives how many one command may bring.
func (h *hand) room(ctx context.Context, some int) (int, error) {
	for {
		h.mu.Lock()
		room := h.most - len(h.ids)
		h.mu.Unlock()
		if room >= some {
			return min(room, perCommand), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-h.freed:
		}
	}
}

// add says whether the entry was not in it yet.
func (h *hand) add(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, there := h.ids[id]
	h.ids[id] = struct{}{}
	return !there
}

func (h *hand) drop(ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		delete(h.ids, id)
	}
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

func (h *hand) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]string, 0, len(h.ids))
	for id := range h.ids {
		ids = append(ids, id)
	}
	return ids
}
