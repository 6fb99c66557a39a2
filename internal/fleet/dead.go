package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

var lostCallsScript = scripts.Script("lost_calls.lua")

// lostPage is how many calls one script looks at, which must not hold Redis for long.
const lostPage = 200

// Lost names the turns whose call died with its process, so that the caller sees
// to it that they have their task; whoever takes it judges the attempt. Begin
// with an empty page; the last one's next is empty.
func (m *Member) Lost(ctx context.Context, page string) (lost []request.Turn, next string, err error) {
	reply, err := lostCallsScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, lua.Args{
		"unbroken": m.Unbroken().Milliseconds(), "dead": m.cfg.DeadAfter.Milliseconds(), "expected_time": m.clock.expected(),
		"skip": cursor(page), "max": lostPage,
	}).StringSlice()
	if err != nil {
		return nil, "", fmt.Errorf("look for calls that died: %w", err)
	}
	for i := 1; i < len(reply); i += 2 {
		ref, err := request.ParseRef(reply[i+1])
		if err != nil {
			return nil, "", err
		}
		lost = append(lost, request.Turn{Lane: request.Lane(reply[i]), Ref: ref})
	}
	return lost, reply[0], nil
}

// cursor is where a walk goes on.
func cursor(page string) string {
	if page == "" {
		return "0"
	}
	return page
}

// Handlers tells which turns have a handler, as of its process' last heartbeat:
// whether that process lives, by the one test for it. One script a process.
func (m *Member) Handlers(ctx context.Context) (alive map[string]bool, err error) {
	now, err := m.keys.Clock(ctx, m.rdb).Time()
	if err != nil {
		return nil, fmt.Errorf("read the time: %w", err)
	}
	workers, err := m.rdb.ZRangeWithScores(ctx, m.keys.Workers(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the workers: %w", err)
	}
	turns := make([]*redis.StringSliceCmd, len(workers))
	_, err = m.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, w := range workers {
			turns[i] = pipe.SMembers(ctx, m.keys.Handlers(w.Member.(string)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what has a handler: %w", err)
	}
	alive = map[string]bool{}
	unbroken := m.clock.unbroken()
	if m.clock.stepped(now) {
		unbroken = 0
	}
	for i, w := range workers {
		// A heartbeat far in the future is from before Redis' clock went back.
		silent := now.Sub(time.UnixMilli(int64(w.Score))).Abs() > m.cfg.DeadAfter
		lives := !silent || unbroken < m.cfg.DeadAfter
		for _, turn := range turns[i].Val() {
			alive[turn] = alive[turn] || lives
		}
	}
	return alive, nil
}
