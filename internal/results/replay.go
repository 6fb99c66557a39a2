package results

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var replayScript = scripts.Script("replay.lua")

// MaxReplayed is the number of events that one script publishes.
const MaxReplayed = 100

const (
	progressTTL = time.Hour // how long the progress of an interrupted replay is kept
	scanPage    = 500       // keys of one scan, most of which are records
)

// ReplaySelection selects the ends to publish again: those of a batch, of some requests, or
// all.
type ReplaySelection struct {
	Batch int // number; -1: all batches
	IDs   []string
	// Name is the name under which the progress is stored.
	Name string
}

// ReplayProgress is the progress of a replay, which begins with the zero value.
type ReplayProgress struct {
	Since     time.Time // earlier ends are not replayed
	Published int       // events so far
	// place is where to continue: a chunk of the batch, or the cursor of a scan.
	place uint64
}

// Progress returns the progress of a replay that was interrupted within the last hour; ok is
// false if there is none.
func (s *Stream) Progress(ctx context.Context, selection ReplaySelection) (p ReplayProgress, ok bool, err error) {
	text, err := s.rdb.Get(ctx, s.keys.Replay(selection.Name)).Result()
	if errors.Is(err, redis.Nil) {
		return p, false, nil
	}
	if err != nil {
		return p, false, readError("the progress of the replay", err)
	}
	var since int64
	if _, err := fmt.Sscanf(text, replayFormat, &p.place, &p.Published, &since); err != nil {
		return p, false, nil //nolint:nilerr // the replay restarts
	}
	p.Since = time.UnixMilli(since)
	return p, true, nil
}

const replayFormat = "%d %d %d"

func (s *Stream) saveProgress(ctx context.Context, selection ReplaySelection, p ReplayProgress) error {
	text := fmt.Sprintf(replayFormat, p.place, p.Published, p.Since.UnixMilli())
	if err := s.rdb.Set(ctx, s.keys.Replay(selection.Name), text, progressTTL).Err(); err != nil {
		return fmt.Errorf("store the progress of the replay: %w", err)
	}
	return nil
}

// Replay publishes the selected ends again, as far as their records exist: each with its
// event id and time, and marked as a replay. Ends of earlier runs and generations are
// included, with the present numbers of attempts. It continues from p in parts: before each
// part it calls pace with the number of events, and stops if that fails. It returns the
// progress. An end that a scan of the keys returns twice is published twice.
func (s *Stream) Replay(ctx context.Context, selection ReplaySelection, p ReplayProgress, pace func(n int) error) (ReplayProgress, error) {
	for page, err := range s.pages(ctx, selection, p.place) {
		if err != nil {
			return p, err
		}
		ends, err := s.endEvents(ctx, page.records, p.Since)
		if err != nil {
			return p, err
		}
		for part := range slices.Chunk(ends, MaxReplayed) {
			if err := pace(len(part)); err != nil {
				return p, err
			}
			rows := lua.NewRows("id", "generation", "run", "event_id", "type", "at", "data")
			for _, e := range part {
				rows.Add(e.id, e.generation, e.run, e.eventID, e.kind, e.at, e.data)
			}
			n, err := replayScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, nil, rows).Int()
			if err != nil {
				return p, fmt.Errorf("replay %d events: %w", len(part), err)
			}
			p.Published += n
		}
		if p.place = page.next; len(selection.IDs) == 0 {
			if err := s.saveProgress(ctx, selection, p); err != nil {
				return p, err
			}
		}
	}
	if err := s.rdb.Del(ctx, s.keys.Replay(selection.Name)).Err(); err != nil {
		return p, fmt.Errorf("delete the progress of the replay: %w", err)
	}
	return p, ctx.Err()
}

// replayPage is a part of the requests, and the place of the next part.
type replayPage struct {
	records []request.Record
	next    uint64
}

func (s *Stream) pages(ctx context.Context, selection ReplaySelection, place uint64) iter.Seq2[replayPage, error] {
	switch {
	case len(selection.IDs) > 0:
		return s.requestPages(ctx, selection.IDs)
	case selection.Batch >= 0:
		return s.batchPages(ctx, selection.Batch, place)
	}
	return s.accountPages(ctx, place)
}

func (s *Stream) requestPages(ctx context.Context, ids []string) iter.Seq2[replayPage, error] {
	return func(yield func(replayPage, error) bool) {
		for part := range slices.Chunk(ids, scanPage) {
			records, err := s.generations(ctx, part)
			if !yield(replayPage{records: records}, err) || err != nil {
				return
			}
		}
	}
}

// batchPages iterates over the batch's own requests, without joined ones.
func (s *Stream) batchPages(ctx context.Context, number int, place uint64) iter.Seq2[replayPage, error] {
	return func(yield func(replayPage, error) bool) {
		for chunks, err := range s.batches.Chunks(ctx, number) {
			var ids []string
			next := place
			for _, c := range chunks {
				if uint64(c.Number) < place { //nolint:gosec // chunks are counted from 0
					continue
				}
				next = uint64(c.Number) + 1 //nolint:gosec // the same
				for _, row := range order.ParseChunk(c.Text) {
					if row.ApplicationID != "" {
						ids = append(ids, row.ApplicationID)
					}
				}
			}
			var records []request.Record
			if err == nil && len(ids) > 0 {
				records, err = s.generations(ctx, ids)
			}
			records = slices.DeleteFunc(records, func(r request.Record) bool { return r.Batch != number })
			if !yield(replayPage{records, next}, err) || err != nil {
				return
			}
		}
	}
}

// generations reads all stored generations of some requests.
func (s *Stream) generations(ctx context.Context, ids []string) ([]request.Record, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.keys.Record(id)
	}
	latest, err := s.readKeys(ctx, keys)
	if err != nil {
		return nil, err
	}
	var old []string
	for _, r := range latest {
		for generation := 1; generation < r.Generation; generation++ {
			old = append(old, s.keys.Old(r.ApplicationID, generation))
		}
	}
	earlier, err := s.readKeys(ctx, old)
	return append(earlier, latest...), err
}

// accountPages iterates over all requests of the account.
func (s *Stream) accountPages(ctx context.Context, place uint64) iter.Seq2[replayPage, error] {
	return func(yield func(replayPage, error) bool) {
		node, err := s.keys.Node(ctx, s.rdb)
		for err == nil {
			var keys []string
			if keys, place, err = node.Scan(ctx, place, s.keys.Tag()+"*", scanPage).Result(); err != nil {
				err = fmt.Errorf("scan the keys: %w", err)
				break
			}
			keys = slices.DeleteFunc(keys, func(key string) bool { _, ok := s.requestOf(key); return !ok })
			var records []request.Record
			if records, err = s.readKeys(ctx, keys); err != nil {
				break
			}
			if !yield(replayPage{records, place}, nil) || place == 0 {
				return
			}
		}
		yield(replayPage{}, err)
	}
}

// requestOf returns the application id of a key that holds a generation of a request.
func (s *Stream) requestOf(key string) (id string, ok bool) {
	if id, ok = strings.CutPrefix(key, s.keys.Record("")); ok {
		return id, true
	}
	rest, ok := strings.CutPrefix(key, s.keys.Tag()+":old:")
	_, id, cut := strings.Cut(rest, ":")
	return id, ok && cut
}

// readKeys reads the records with some keys. Records that cannot be decoded are omitted, since
// their ends cannot be replayed.
func (s *Stream) readKeys(ctx context.Context, keys []string) ([]request.Record, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	values, err := s.rdb.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read %d requests: %w", len(keys), err)
	}
	records := make([]request.Record, 0, len(keys))
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			continue
		}
		id, _ := s.requestOf(keys[i])
		if r, err := request.Parse(id, []byte(text)); err == nil {
			records = append(records, r)
		}
	}
	return records, nil
}

var endTypes = map[request.State]string{
	request.Created: tasks.EventCreated, request.Failed: tasks.EventFailed, request.Cancelled: tasks.EventCancelled,
}

// endEvents returns the events of the ends of some generations, from a time on.
func (s *Stream) endEvents(ctx context.Context, records []request.Record, since time.Time) (ends []endEvent, err error) {
	for _, r := range records {
		for _, o := range append(slices.Clone(r.Past), r.Outcome) {
			if !o.Status.Ended() || o.Late || o.EndedAt.Before(since) {
				continue
			}
			r.Run = o.Run
			end, err := s.endEvent(ctx, r, o)
			if err != nil {
				return nil, err
			}
			ends = append(ends, end)
		}
	}
	return ends, nil
}

// endEvent is the event of an end.
type endEvent struct {
	id              string
	generation, run int
	eventID, kind   string
	at, data        string
}

// endEvent returns the event of an end, with the same data as when it was first published.
func (s *Stream) endEvent(ctx context.Context, r request.Record, o request.Outcome) (end endEvent, err error) {
	e, err := s.events.Parts(ctx, r, o.EndedAt)
	if err != nil {
		return end, err
	}
	var parts []event.Member
	if o.Status == request.Created {
		parts = []event.Member{event.Pair("link_id", o.LinkID), event.Pair("url", o.URL), event.Pair("expires_at", o.ExpiresAt)}
	} else {
		parts = []event.Member{event.Pair("reason", o.Reason)}
		if o.Message != "" {
			parts = append(parts, event.Pair("message", o.Message))
		}
	}
	middle, err := event.Members(parts...)
	if err != nil {
		return end, err
	}
	data := fmt.Sprintf(`{"application_id":%s,"generation":%d,"run":%d%s%s,"attempts":%d,"possible_duplicates":%d%s}`,
		e.IDJSON, r.Generation, r.Run, e.Head, middle, r.Attempts, r.PossibleDuplicates, e.Tail)
	return endEvent{r.ApplicationID, r.Generation, r.Run, e.ID, endTypes[o.Status], e.At, data}, nil
}
