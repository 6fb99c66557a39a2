// Package erasure erases ended requests and what is kept of them: by age, or because a
// person asks for it.
package erasure

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
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
}

// New returns an eraser that uses, and does not close, rdb. retention is how long
// [Eraser.Retire] keeps an ended request; 0: for ever.
func New(rdb redis.UniversalClient, keys keyspace.Keys, retention time.Duration) *Eraser {
	return &Eraser{rdb, keys, retention, batch.NewStore(rdb, keys), record.NewReader(rdb, keys), quarantine.NewList(rdb, keys)}
}

// eraseRows is how many one script erases: it must not hold Redis for long.
const eraseRows = 50

// Erasure is the result of erasing a request.
type Erasure struct {
	ApplicationID string
	// State is the one that the request had when it was erased, or has, where it
	// was not; empty where there is none.
	State  request.State
	Erased bool
	// Broken says that its record cannot be read by this version. An older or
	// damaged one is erased by force only, and no counter knows of it.
	Unreadable bool
	// Since is when it came to its state, where it was not erased.
	Since       time.Time
	Generations int // that went
	Rows        int // of its batch that lost its id
}

// Erase takes requests away that have ended, whatever is kept of them but the
// names that other rows have for them, which are [Eraser.EraseRows]'s, and their
// events. It counts them as erased.
func (er *Eraser) Erase(ctx context.Context, ids []string) ([]Erasure, error) {
	return er.eraseAll(ctx, ids, true, math.MaxInt64)
}

// eraseAll erases those that had ended by a time, in ms.
func (er *Eraser) eraseAll(ctx context.Context, ids []string, force bool, due int64) ([]Erasure, error) {
	all := make([]Erasure, 0, len(ids))
	for page := range slices.Chunk(ids, eraseRows) {
		reply, err := eraseScript.Run(ctx, er.rdb, []string{er.keys.Tag()},
			lua.Args{"force": force, "ended_by": due}, lua.Column("id", page)).Slice()
		if err != nil {
			return all, fmt.Errorf("erase %d requests: %w", len(page), err)
		}
		for i, id := range page {
			one, err := readErasure(id, reply[4*i:4*i+4])
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
	e.Generations, e.Rows = int(generations), int(rows)
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
