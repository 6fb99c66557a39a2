package erasure

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
)

// Whom selects the data to erase: of some application ids, or of all that one batch
// accepted first.
type EventFilter struct {
	IDs   map[string]bool
	Batch string // a name, where there are no ids
}

const eventsPage = 1000

// EraseEvents removes events from the results stream, and returns how many: of a batch, those
// whose requests are not kept any more. It reads the stream once, page by page, up to its
// present end.
func (er *Eraser) EraseEvents(ctx context.Context, whom EventFilter) (gone int, err error) {
	last, err := er.rdb.XRevRangeN(ctx, er.keys.Results(), "+", "-", 1).Result()
	if err != nil || len(last) == 0 {
		return 0, readError("the results stream", err)
	}
	for from := "-"; ; {
		entries, err := er.rdb.XRangeN(ctx, er.keys.Results(), from, last[0].ID, eventsPage).Result()
		if err != nil {
			return gone, readError("the results stream", err)
		}
		var meant []redis.XMessage
		for _, e := range entries {
			if whom.matches(e) {
				meant = append(meant, e)
			}
			from = "(" + e.ID
		}
		n, err := er.dropEvents(ctx, whom, meant)
		if gone += n; err != nil || len(entries) < eventsPage {
			return gone, err
		}
	}
}

func readError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w", what, err)
}

func (w EventFilter) matches(e redis.XMessage) bool {
	if w.Batch == "" {
		return w.IDs[fmt.Sprint(e.Values["application_id"])]
	}
	data, _ := e.Values["data"].(string)
	var of struct {
		Batch string `json:"batch"`
	}
	return strings.Contains(data, `"batch":`) && json.Unmarshal([]byte(data), &of) == nil && of.Batch == w.Batch
}

func (er *Eraser) dropEvents(ctx context.Context, whom EventFilter, meant []redis.XMessage) (int, error) {
	ids := make([]string, 0, len(meant))
	kept := make([]*redis.IntCmd, len(meant))
	if whom.Batch != "" && len(meant) > 0 {
		if _, err := er.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, e := range meant {
				kept[i] = pipe.Exists(ctx, er.keys.Record(fmt.Sprint(e.Values["application_id"])))
			}
			return nil
		}); err != nil {
			return 0, readError("which requests are kept", err)
		}
	}
	for i, e := range meant {
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
	names := map[string]bool{}
	_, err := er.quarantined.Drop(ctx, func(p quarantine.Entry) bool {
		if ref, err := request.ParseRef(p.Task); err == nil {
			names[ref.ApplicationID] = true
		}
		return false
	})
	return names, err
}

// EraseQuarantined removes quarantine entries that belong to one of some application ids, or
// mention one, and returns how many.
func (er *Eraser) EraseQuarantined(ctx context.Context, ids map[string]bool) (gone int, err error) {
	return er.quarantined.Drop(ctx, func(p quarantine.Entry) bool {
		if ref, err := request.ParseRef(p.Task); err == nil && ids[ref.ApplicationID] {
			return true
		}
		for id := range ids {
			if mentions([]byte(p.Task), id) || mentions([]byte(p.Why), id) || mentions(p.Raw, id) {
				return true
			}
		}
		return false
	})
}

// mentions says whether raw contains an id. An id that continues after it is another one;
// what precedes it may be anything, such as its length.
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

// EraseOrder removes the order of a batch of which no request is kept any more. Its counters
// stay.
func (er *Eraser) EraseOrder(ctx context.Context, number int) error {
	if err := er.rdb.Unlink(ctx, er.keys.Order(number), er.keys.Joined(number), er.keys.Requeued(number), er.keys.CancelledRequeued(number)).Err(); err != nil {
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
