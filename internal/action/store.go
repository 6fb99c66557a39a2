package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/storage"
)

const (
	// MaxRunning is the most actions of an account that run at a time.
	MaxRunning = 8
	maxKept    = 1000
)

// Store plans, starts and reads the actions of one account. An action is kept for seven days
// after its end, if there are not more than a thousand. It is safe for concurrent use.
type Store struct {
	rdb      redis.UniversalClient
	keys     keyspace.Keys
	stores   *storage.Stores
	operator *operator.Operator
}

// NewStore returns a store that uses, and does not close, rdb.
func NewStore(rdb redis.UniversalClient, account string) *Store {
	return &Store{rdb: rdb, keys: keyspace.Keys{Account: account}, stores: storage.Of(rdb, account), operator: operator.New(rdb, account)}
}

// BusyError says that as many actions run as may.
type BusyError struct{}

func (*BusyError) Error() string {
	return fmt.Sprintf("%d actions are running; wait until one is done, or abort one", MaxRunning)
}

// SameError says that a running action, which another plan has started, changes the same
// entries.
type SameError struct{ ID string }

func (e *SameError) Error() string {
	return fmt.Sprintf("action %s, which is running, changes the same entries", e.ID)
}

// Start starts an action, which runners of the workers carry out. The token is that of the
// plan, or of an earlier plan that it matches. If the token has started an action before, by
// a double click or a repeated request, Start returns that one. by is who starts it. It fails
// with [*SameError] or [*BusyError] if no action may be started.
func (s *Store) Start(ctx context.Context, p Plan, token, by string) (Action, error) {
	r := p.request
	filter, err := json.Marshal(r.Filter)
	if err != nil {
		return Action{}, fmt.Errorf("encode the filter of an action: %w", err)
	}
	var ids []byte
	if len(r.IDs) > 0 {
		if ids, err = json.Marshal(r.IDs); err != nil {
			return Action{}, fmt.Errorf("encode the IDs of an action: %w", err)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Action{}, fmt.Errorf("make the ID of an action: %w", err)
	}
	started, err := startScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"id": id.String(), "token": token, "kind": string(r.Kind), "by": by, "rate": r.Rate, "filter": filter, "ids": ids,
		"matched": p.Count + p.Unreadable, "selected": len(r.IDs), "most_running": MaxRunning, "most_kept": maxKept,
	}).StringSlice()
	if err != nil {
		return Action{}, fmt.Errorf("start an action: %w", err)
	}
	switch started[0] {
	case "busy":
		return Action{}, &BusyError{}
	case "same":
		return Action{}, &SameError{ID: started[1]}
	}
	a, _, err := s.Get(ctx, started[1])
	return a, err
}

// Started returns the action of a kind that a token has started; ok is false if there is none.
func (s *Store) Started(ctx context.Context, kind Kind, token string) (a Action, ok bool, err error) {
	id, err := s.rdb.Get(ctx, s.keys.ActionToken(token)).Result()
	if errors.Is(err, redis.Nil) {
		return a, false, nil
	}
	if err != nil {
		return a, false, fmt.Errorf("read which action was started: %w", err)
	}
	a, ok, err = s.Get(ctx, id)
	return a, ok && a.Kind == kind, err
}

// Running finds a running action that was started with the same kind and filter, but for the
// end of its period.
func (s *Store) Running(ctx context.Context, r Request) (a Action, ok bool, err error) {
	ids, err := s.rdb.ZRange(ctx, s.keys.RunningActions(), 0, -1).Result()
	if err != nil {
		return a, false, fmt.Errorf("list the running actions: %w", err)
	}
	running, err := s.read(ctx, ids)
	for _, a := range running {
		f := a.Filter
		f.Before = r.Filter.Before // that of a running action is not later than its start
		if a.State == Running && a.Kind == r.Kind && a.Selected == 0 && f == r.Filter {
			return a, true, err
		}
	}
	return a, false, err
}

// Get reads an action; ok is false if there is none with this ID. An action that cannot be
// decoded has the state [Unreadable].
func (s *Store) Get(ctx context.Context, id string) (a Action, ok bool, err error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.Action(id)).Result()
	if err != nil {
		return a, false, fmt.Errorf("read action %s: %w", id, err)
	}
	if len(fields) == 0 {
		return a, false, nil
	}
	return shown(parse(id, fields)), true, nil
}

// List reads at most limit actions, the newest first, from after the one with the ID after,
// or from the newest if that is empty. more reports whether there are others.
func (s *Store) List(ctx context.Context, after string, limit int) (page []Action, more bool, err error) {
	ids, err := s.rdb.ZRange(ctx, s.keys.Actions(), 0, -1).Result() // a thousand at most
	if err != nil {
		return nil, false, fmt.Errorf("list the actions: %w", err)
	}
	slices.SortFunc(ids, func(a, b string) int { return strings.Compare(b, a) }) // they begin with the time
	if after != "" {
		ids = slices.DeleteFunc(ids, func(id string) bool { return id >= after })
	}
	page = []Action{}
	for chunk := range slices.Chunk(ids, limit+1) {
		found, err := s.read(ctx, chunk)
		if err != nil {
			return nil, false, err
		}
		if page = append(page, found...); len(page) > limit {
			return page[:limit], true, nil
		}
	}
	return page, false, nil
}

// read reads actions; those that have expired are left out.
func (s *Store) read(ctx context.Context, ids []string) (page []Action, err error) {
	replies := make([]*redis.MapStringStringCmd, len(ids))
	if _, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = p.HGetAll(ctx, s.keys.Action(id))
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the actions: %w", err)
	}
	for i, reply := range replies {
		if len(reply.Val()) == 0 {
			continue
		}
		page = append(page, shown(parse(ids[i], reply.Val())))
	}
	return page, nil
}

// Abort ends a running action. Entries that are being changed at that moment, at most a
// page, are completed and counted, if need be by another runner. It returns the action's
// state before, "" if there is none.
func (s *Store) Abort(ctx context.Context, id string) (State, error) {
	before, err := abortScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"id": id}).Text()
	if err != nil {
		return "", fmt.Errorf("abort action %s: %w", id, err)
	}
	return State(before), nil
}
