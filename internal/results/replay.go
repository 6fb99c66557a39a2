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

// ReplayMost is how many ends are published at a time, by one script.
const MaxReplayed = 100

const (
	progressTTL = time.Hour // how long it is known how far it was
	scanPage    = 500       // keys, of which most are records
)

// Replay says which ends to publish again: those of a batch, those of some requests, or
// all.
type ReplaySelection struct {
	Batch int // its number; -1: of all
	IDs   []string
	// Name is what is kept under how far it is.
	Name string
}

// Replayed is the progress of a replay, and the time since which an end must have happened
// to be replayed. A replay begins with zero values.
type ReplayProgress struct {
	Since     time.Time
	Published int
	// place is where to continue: a chunk of the batch, or a cursor of all keys.
	place uint64
}

// Progress returns the progress of a replay that was interrupted within the last hour; ok is
// false if it has ended or was not begun.
func (s *Stream) Progress(ctx context.Context, which ReplaySelection) (far ReplayProgress, ok bool, err error) {
	text, err := s.rdb.Get(ctx, s.keys.Replay(which.Name)).Result()
	if errors.Is(err, redis.Nil) {
		return far, false, nil
	}
	if err != nil {
		return far, false, readError("how far the replay was", err)
	}
	var since int64
	if _, err := fmt.Sscanf(text, replayFormat, &far.place, &far.Published, &since); err != nil {
		return far, false, nil //nolint:nilerr // it restarts
	}
	far.Since = time.UnixMilli(since)
	return far, true, nil
}

const replayFormat = "%d %d %d"

func (s *Stream) saveProgress(ctx context.Context, which ReplaySelection, far ReplayProgress) error {
	text := fmt.Sprintf(replayFormat, far.place, far.Published, far.Since.UnixMilli())
	if err := s.rdb.Set(ctx, s.keys.Replay(which.Name), text, progressTTL).Err(); err != nil {
		return fmt.Errorf("keep how far the replay is: %w", err)
	}
	return nil
}

// Replay publishes ends again, as far as the ledger keeps them: each with its event id and
// time, and marked as a replay. Ends of earlier runs and generations are included; the
// numbers of attempts are the present ones. It continues from far, in parts; before each
// part it calls pace with the number of events, and ends if that fails. It returns the
// progress. An end that a scan of the keys returns twice is published twice.
func (s *Stream) Replay(ctx context.Context, which ReplaySelection, far ReplayProgress, pace func(n int) error) (ReplayProgress, error) {
	for page, err := range s.pages(ctx, which, far.place) {
		if err != nil {
			return far, err
		}
		ends, err := s.endEvents(ctx, page.records, far.Since)
		if err != nil {
			return far, err
		}
		for part := range slices.Chunk(ends, MaxReplayed) {
			if err := pace(len(part)); err != nil {
				return far, err
			}
			rows := lua.NewRows("id", "generation", "run", "event_id", "type", "at", "data")
			for _, e := range part {
				rows.Add(e.id, e.generation, e.run, e.eventID, e.kind, e.at, e.data)
			}
			n, err := replayScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, nil, rows).Int()
			if err != nil {
				return far, fmt.Errorf("replay %d events: %w", len(part), err)
			}
			far.Published += n
		}
		if far.place = page.next; len(which.IDs) == 0 {
			if err := s.saveProgress(ctx, which, far); err != nil {
				return far, err
			}
		}
	}
	if err := s.rdb.Del(ctx, s.keys.Replay(which.Name)).Err(); err != nil {
		return far, fmt.Errorf("forget how far the replay was: %w", err)
	}
	return far, ctx.Err()
}

// replayPage is a part of the requests, and where the next part begins.
type replayPage struct {
	records []request.Record
	next    uint64
}

func (s *Stream) pages(ctx context.Context, which ReplaySelection, place uint64) iter.Seq2[replayPage, error] {
	switch {
	case len(which.IDs) > 0:
		return s.requestPages(ctx, which.IDs)
	case which.Batch >= 0:
		return s.batchPages(ctx, which.Batch, place)
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

// replayBatch goes through the rows of a batch, and leaves out what other batches
// accepted first.
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
				for _, line := range order.ParseChunk(c.Text) {
					if line.ApplicationID != "" {
						ids = append(ids, line.ApplicationID)
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

// generations reads all generations that are kept of some requests.
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

// replayAll goes through all keys.
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

// readKeys reads what is kept under keys of requests. Records that cannot be decoded have no
// end that could be replayed.
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

// ends are the arguments that publish the ends of generations.
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

// replayedEnd is the event of an end.
type endEvent struct {
	id              string
	generation, run int
	eventID, kind   string
	at, data        string
}

// replayed returns the event of an end, with the data that the scripts have published.
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
