// Package activity shows what an account did in the last hour: the links created and the
// faults of each minute, and the periods in which the gate was closed.
//
// It is for people. A process counts in memory, and adds its counts to the present minute of
// Redis' clock about once a second, so that counting costs no round trip per call. A process
// that is killed loses the counts of its last second, and a count may be in the minute after
// its call. The counters of states in the ledger are exact.
package activity

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
)

const (
	// minutes is the number of minutes that are shown, the present one included.
	minutes = 60
	// keep is how long the counts of a minute are kept. It is longer than an hour, so that
	// a step of Redis' clock does not remove minutes that are shown.
	keep = 2 * time.Hour
)

var addScript = scripts.Script("add.lua")

// Store keeps the activity of one account in Redis. It is safe for concurrent use.
type Store struct {
	rdb  redis.UniversalClient
	keys keyspace.Keys
}

// NewStore returns a store that uses, and does not close, rdb.
func NewStore(rdb redis.UniversalClient, keys keyspace.Keys) *Store { return &Store{rdb, keys} }

// Flush moves the counts of a counter to Redis. If it fails, they stay in the counter. It
// does nothing if there are none.
func (s *Store) Flush(ctx context.Context, c *Counter) error {
	taken := c.take()
	if len(taken) == 0 {
		return nil
	}
	rows := lua.NewRows("name", "n")
	for name, n := range taken {
		rows.Add(name, n)
	}
	err := addScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"keep": keep.Milliseconds()}, rows).Err()
	if err != nil {
		c.giveBack(taken)
		return fmt.Errorf("add to the activity of the account: %w", err)
	}
	return nil
}

// Hour is the activity of the last hour.
type Hour struct {
	At time.Time `json:"at"` // the present, by Redis' clock
	// Minutes are 60, the oldest first. The last one is the present one.
	Minutes []Minute `json:"minutes"`
	// Closed are the periods in which the gate was closed, ordered by their beginnings.
	// Periods of different reasons may overlap.
	Closed []Period `json:"closed"`
}

// Minute is the activity of one minute.
type Minute struct {
	At      time.Time            `json:"at"` // its beginning
	Created int                  `json:"created"`
	Faults  map[fault.Reason]int `json:"faults,omitempty"`
}

// Failed returns the number of faults.
func (m Minute) Failed() (n int) {
	for _, of := range m.Faults {
		n += of
	}
	return n
}

// Hour reads the last hour, in three round trips.
func (s *Store) Hour(ctx context.Context) (Hour, error) {
	at, err := s.keys.Clock(ctx, s.rdb).Time()
	if err != nil {
		return Hour{}, err
	}
	h := Hour{At: at.UTC(), Minutes: make([]Minute, minutes)}
	last := h.At.Unix() / 60
	var counts [minutes]*redis.MapStringStringCmd
	_, err = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range counts {
			counts[i] = pipe.HGetAll(ctx, s.keys.Activity(last-minutes+1+int64(i)))
		}
		return nil
	})
	if err != nil {
		return Hour{}, fmt.Errorf("read the activity of the account: %w", err)
	}
	for i := range h.Minutes {
		h.Minutes[i] = parseMinute(time.Unix((last-minutes+1+int64(i))*60, 0).UTC(), counts[i].Val())
	}
	changes, err := admission.History(ctx, s.rdb, s.keys)
	if err != nil {
		return Hour{}, err
	}
	h.Closed = closedPeriods(changes, h)
	return h, nil
}

// parseMinute returns a minute of its hash. A name that is not that of links is the reason
// of faults, perhaps of a newer version.
func parseMinute(at time.Time, hash map[string]string) Minute {
	m := Minute{At: at}
	for name, text := range hash {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n <= 0:
		case name == created:
			m.Created = n
		default:
			if m.Faults == nil {
				m.Faults = map[fault.Reason]int{}
			}
			m.Faults[fault.Reason(name)] = n
		}
	}
	return m
}
