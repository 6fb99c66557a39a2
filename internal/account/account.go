// Package account reads the status of an account: gate and rate, backlog, workers, results
// and intake. It changes nothing.
package account

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
)

// Reader reads one account. It is safe for concurrent use.
type Reader struct {
	rdb         redis.UniversalClient
	keys        keyspace.Keys
	results     *results.Stream
	quarantined *quarantine.List
}

// NewReader returns a reader that uses, and does not close, rdb.
func NewReader(rdb redis.UniversalClient, keys keyspace.Keys) *Reader {
	return &Reader{rdb, keys, results.NewStream(rdb, keys, results.Config{}), quarantine.NewList(rdb, keys)}
}

// Backlog is the number of waiting and queued requests of each lane.
type Backlog struct {
	Interactive int `json:"interactive"`
	Bulk        int `json:"bulk"`
}

// Status is the status of an account, as "account status" shows it.
type Status struct {
	Account  string `json:"account"`
	Upstream string `json:"upstream,omitempty"` // real or simulated; absent before its first link
	admission.Status
	Backlog Backlog      `json:"backlog"`
	Workers int          `json:"workers"`
	Results StreamStatus `json:"results"`
	// Quarantined is the number of quarantined tasks and records.
	Quarantined int    `json:"put_aside,omitempty"`
	Intake      Intake `json:"intake,omitzero"`
}

// StreamStatus is the fill of the results stream, and the number of events that its slowest
// live group has not acknowledged.
type StreamStatus struct {
	Length int    `json:"length"`
	Cap    int    `json:"cap"` // 0 before the first worker
	Group  string `json:"slowest_group,omitempty"`
	Lag    int    `json:"lag"`
}

// Intake is the number of entries in the intake stream, and of the rejects that are kept.
type Intake struct {
	Entries int `json:"entries"`
	Rejects int `json:"rejects"`
}

// Status reads the status.
func (a *Reader) Status(ctx context.Context) (s Status, err error) {
	s.Account = a.keys.Account
	if s.Status, err = admission.Read(ctx, a.rdb, a.keys); err != nil {
		return s, err
	}
	if s.Upstream, s.Backlog, s.Workers, err = a.Summary(ctx); err != nil {
		return s, err
	}
	stream, err := a.results.Status(ctx)
	if err != nil {
		return s, err
	}
	slowest, _ := stream.Slowest()
	s.Results = StreamStatus{stream.Length, stream.Cap, slowest.Group, slowest.Unacknowledged()}
	if s.Quarantined, err = a.quarantined.Len(ctx); err != nil {
		return s, err
	}
	var entries, rejects *redis.IntCmd
	_, err = a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		entries, rejects = pipe.XLen(ctx, a.keys.Requests()), pipe.XLen(ctx, a.keys.Rejects())
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("read the intake stream: %w", err)
	}
	s.Intake = Intake{int(entries.Val()), int(rejects.Val())}
	return s, nil
}

// Summary reads the kind of the account's links ("" before the first one), the backlog, and
// the number of live worker processes.
func (a *Reader) Summary(ctx context.Context) (upstream string, backlog Backlog, workers int, err error) {
	now, err := a.keys.Clock(ctx, a.rdb).Time()
	if err != nil {
		return "", Backlog{}, 0, fmt.Errorf("read the time: %w", err)
	}
	alive, ahead := now.Add(-fleet.DeadAfter).UnixMilli(), now.Add(fleet.DeadAfter).UnixMilli()
	var fields *redis.SliceCmd
	var interactive, bulk, living *redis.IntCmd
	// Not in a transaction, which a full Redis refuses.
	_, err = a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		fields = pipe.HMGet(ctx, a.keys.State(), "upstream", "waiting")
		interactive = pipe.ZCard(ctx, a.keys.Queued(request.Interactive))
		bulk = pipe.ZCard(ctx, a.keys.Queued(request.Bulk))
		living = pipe.ZCount(ctx, a.keys.Workers(), strconv.FormatInt(alive, 10), strconv.FormatInt(ahead, 10))
		return nil
	})
	if err != nil {
		return "", Backlog{}, 0, fmt.Errorf("read the account: %w", err)
	}
	upstream, _ = fields.Val()[0].(string)
	text, _ := fields.Val()[1].(string)
	waiting, _ := strconv.Atoi(text) // absent is 0
	// An interactive request never waits to be fed: it is queued from its acceptance on.
	return upstream, Backlog{int(interactive.Val()), int(bulk.Val()) + waiting}, int(living.Val()), nil
}
