// Package erasure erases ended requests and everything that is kept about them: after the
// retention period, or on an operator's request (forget).
package erasure

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
)

var eraseScript = scripts.Script("erase.lua")

// Eraser erases requests of one account. It is safe for concurrent use.
type Eraser struct {
	rdb         redis.UniversalClient
	keys        keyspace.Keys
	retention   time.Duration
	batches     *batch.Store
	records     *record.Reader
	quarantined *quarantine.List
	indexed     atomic.Bool  // no pass of [Eraser.IndexRows] is needed any more
	searched    atomic.Int64 // when this process last searched long lists, in ms
}

// New returns an eraser that uses, and does not close, rdb. retention is how long
// [Eraser.EraseExpired] keeps an ended request; 0: forever.
func New(rdb redis.UniversalClient, keys keyspace.Keys, retention time.Duration) *Eraser {
	return &Eraser{
		rdb: rdb, keys: keys, retention: retention,
		batches: batch.NewStore(rdb, keys), records: record.NewReader(rdb, keys), quarantined: quarantine.NewList(rdb, keys),
	}
}

// eraseRows is the number of requests of one script, which must not block Redis for long.
const eraseRows = 50

// Erasure is the result for one request.
type Erasure struct {
	ApplicationID string
	// State is the state of the request, before it was erased if it was; empty if there
	// is none.
	State  request.State
	Erased bool
	// Unreadable reports that this version cannot read the record. A damaged record is
	// erased only by force, and no counter includes it.
	Unreadable bool
	// Since is when the request came to its state, if it was not erased.
	Since       time.Time
	Generations int // erased ones
	Rows        int // rows and lists that lost the id
	Events      int // erased ones
	Entries     int // of the audit trail, erased ones
}

// Erase erases ended requests, and what names them: rows, lists, events and entries of the
// audit trail. It counts them as erased. What earlier versions wrote may remain, see
// [Eraser.EraseRows], [Eraser.EraseEvents] and [Eraser.EraseEntries].
func (er *Eraser) Erase(ctx context.Context, ids []string) ([]Erasure, error) {
	return er.eraseAll(ctx, ids, true, math.MaxInt64)
}

// eraseAll erases the requests that ended by a time, in ms. Only with force are their events
// and entries of the audit trail erased as well.
func (er *Eraser) eraseAll(ctx context.Context, ids []string, force bool, endedBy int64) ([]Erasure, error) {
	all := make([]Erasure, 0, len(ids))
	for page := range slices.Chunk(ids, eraseRows) {
		reply, err := eraseScript.Run(ctx, er.rdb, []string{er.keys.Tag()},
			lua.Args{"force": force, "ended_by": endedBy}, lua.Column("id", page)).Slice()
		if err != nil {
			return all, fmt.Errorf("erase %d requests: %w", len(page), err)
		}
		for i, id := range page {
			one, err := readErasure(id, reply[6*i:6*i+6])
			if err != nil {
				return all, err
			}
			all = append(all, one)
		}
	}
	return all, nil
}

func readErasure(id string, reply []any) (Erasure, error) {
	e := Erasure{ApplicationID: id}
	state := fmt.Sprint(reply[0])
	generations, _ := reply[1].(int64)
	rows, _ := reply[2].(int64)
	events, _ := reply[4].(int64)
	entries, _ := reply[5].(int64)
	e.Generations, e.Rows, e.Events, e.Entries = int(generations), int(rows), int(events), int(entries)
	switch {
	case state == "-":
	case state == "newer" || state == "poison":
		e.Unreadable, e.Erased = true, generations > 0
	case strings.HasPrefix(state, "="):
		since, err := strconv.ParseInt(fmt.Sprint(reply[3]), 10, 64)
		if err != nil {
			return e, fmt.Errorf("erase %s: unexpected time %v", id, reply[3])
		}
		e.State, e.Since = request.State(state[1:]), time.UnixMilli(since)
	default:
		e.State, e.Erased = request.State(state), true
	}
	return e, nil
}
