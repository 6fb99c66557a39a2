package erasure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
)

// EventFilter selects events by application ids or by a batch.
type EventFilter struct {
	IDs   map[string]bool
	Batch string // name; used if there are no IDs
}

const eventsPage = 1000

// eventsIndexed is the field of the account with the time, in ms, from which on the records
// name their events. A worker of an earlier version may run beside new ones for a day.
const (
	eventsIndexed = "events_indexed"
	mixedFor      = 24 * time.Hour
)

// EventsIndexed reports whether the record of each event in the results stream names it, so
// that [Eraser.Erase] has erased all events of a request. Otherwise the oldest events may be
// those of an earlier version.
func (er *Eraser) EventsIndexed(ctx context.Context) (bool, error) {
	var from *redis.StringCmd
	var first *redis.XMessageSliceCmd
	_, err := er.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		from = pipe.HGet(ctx, er.keys.State(), eventsIndexed)
		first = pipe.XRangeN(ctx, er.keys.Results(), "-", "+", 1)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, readError("which events are indexed", err)
	}
	if len(first.Val()) == 0 {
		return true, nil
	}
	since, err := from.Int64()
	return err == nil && event.EnteredAt(first.Val()[0].ID).After(time.UnixMilli(since).Add(mixedFor)), nil
}

// EraseEvents removes events from the results stream, and returns their number. Events of a
// batch are removed only if their requests have no record. It reads the stream once, page by
// page, up to its present end: it is for events that no record names.
func (er *Eraser) EraseEvents(ctx context.Context, filter EventFilter) (erased int, err error) {
	last, err := er.rdb.XRevRangeN(ctx, er.keys.Results(), "+", "-", 1).Result()
	if err != nil || len(last) == 0 {
		return 0, readError("the results stream", err)
	}
	for from := "-"; ; {
		entries, err := er.rdb.XRangeN(ctx, er.keys.Results(), from, last[0].ID, eventsPage).Result()
		if err != nil {
			return erased, readError("the results stream", err)
		}
		var matching []redis.XMessage
		for _, e := range entries {
			if filter.matches(e) {
				matching = append(matching, e)
			}
			from = "(" + e.ID
		}
		n, err := er.dropEvents(ctx, filter, matching)
		if erased += n; err != nil || len(entries) < eventsPage {
			return erased, err
		}
	}
}

func readError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w", what, err)
}

func (f EventFilter) matches(e redis.XMessage) bool {
	if f.Batch == "" {
		return f.IDs[fmt.Sprint(e.Values["application_id"])]
	}
	data, _ := e.Values["data"].(string)
	var decoded struct {
		Batch string `json:"batch"`
	}
	return strings.Contains(data, `"batch":`) && json.Unmarshal([]byte(data), &decoded) == nil && decoded.Batch == f.Batch
}

func (er *Eraser) dropEvents(ctx context.Context, filter EventFilter, events []redis.XMessage) (int, error) {
	ids := make([]string, 0, len(events))
	kept := make([]*redis.IntCmd, len(events))
	if filter.Batch != "" && len(events) > 0 {
		if _, err := er.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, e := range events {
				kept[i] = pipe.Exists(ctx, er.keys.Record(fmt.Sprint(e.Values["application_id"])))
			}
			return nil
		}); err != nil {
			return 0, readError("the records of erased events", err)
		}
	}
	for i, e := range events {
		if kept[i] == nil || kept[i].Val() == 0 {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	n, err := er.rdb.XDel(ctx, er.keys.Results(), ids...).Result()
	if err != nil {
		return 0, fmt.Errorf("remove events from the results stream: %w", err)
	}
	return int(n), nil
}

// QuarantinedIDs returns the application ids of the quarantined tasks.
func (er *Eraser) QuarantinedIDs(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	_, err := er.quarantined.Drop(ctx, func(e quarantine.Entry) bool {
		if ref, err := request.ParseRef(e.Task); err == nil {
			ids[ref.ApplicationID] = true
		}
		return false
	})
	return ids, err
}

// EraseQuarantined removes quarantine entries that mention one of the application ids, and
// returns their number.
func (er *Eraser) EraseQuarantined(ctx context.Context, ids map[string]bool) (erased int, err error) {
	return er.quarantined.Drop(ctx, func(e quarantine.Entry) bool {
		if ref, err := request.ParseRef(e.Task); err == nil && ids[ref.ApplicationID] {
			return true
		}
		for id := range ids {
			if mentions([]byte(e.Task), id) || mentions([]byte(e.Why), id) || mentions(e.Raw, id) {
				return true
			}
		}
		return false
	})
}

// mentions reports whether raw contains an id. A longer id that begins with it is another
// id; any text may precede it, such as its length.
func mentions(raw []byte, id string) bool {
	for {
		at := bytes.Index(raw, []byte(id))
		if at < 0 {
			return false
		}
		raw = raw[at+len(id):]
		next, _ := utf8.DecodeRune(raw)
		if len(raw) == 0 || !unicode.IsLetter(next) && !unicode.IsDigit(next) && next != '-' && next != '_' && next != '.' {
			return true
		}
	}
}

// EraseOrder removes the rows of a batch whose requests were all erased. Its counters
// remain.
func (er *Eraser) EraseOrder(ctx context.Context, number int) error {
	if _, err := er.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Unlink(ctx, er.keys.Order(number), er.keys.Joined(number), er.keys.Requeued(number), er.keys.CancelledRequeued(number))
		pipe.ZAdd(ctx, er.keys.PerhapsEmpty(), redis.Z{Member: number}) // to be examined at once
		return nil
	}); err != nil {
		return fmt.Errorf("erase the order of batch %d: %w", number, err)
	}
	return nil
}

// ErasePanics removes the counts of panics of turns.
func (er *Eraser) ErasePanics(ctx context.Context, refs []request.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	keys := make([]string, len(refs))
	for i, ref := range refs {
		keys[i] = er.keys.Panics(ref)
	}
	if err := er.rdb.Del(ctx, keys...).Err(); err != nil {
		return fmt.Errorf("erase the counts of panics: %w", err)
	}
	return nil
}
