package batch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	cancelRows        = 100 // requests of one script, which must not block Redis for long
	progressChunks    = 32  // chunks between two updates of the progress
	cancelConcurrency = 4
)

// Cancelling returns the cancelled batches whose requests have not all ended, with the
// progress of each. If the progress of a batch does not change, no process works on it.
func (s *Store) Cancelling(ctx context.Context) (map[int]string, error) {
	numbers, err := s.rdb.ZRange(ctx, s.keys.Cancelling(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the batches that are being cancelled: %w", err)
	}
	progress := map[int]string{}
	for _, text := range numbers {
		number, err := strconv.Atoi(text)
		if err == nil {
			progress[number], err = s.rdb.HGet(ctx, s.keys.Batch(number), "calloff").Result()
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("read batch %s: %w", text, err)
		}
	}
	return progress, nil
}

// CancelRequests ends the open requests of a cancelled batch: waiting, queued and held ones
// at once, called ones when their call has ended. It may be interrupted at any point and
// repeated, also by several processes at a time: each request ends once. It calls report
// with the number of requests that ended since the previous report.
func (s *Store) CancelRequests(ctx context.Context, number int, report func(ended int)) error {
	w := cancellation{Store: s, number: number, report: report}
	if err := w.prepare(ctx); err != nil || !w.pending {
		return err
	}
	after, err := w.cancelChunks(ctx)
	if err != nil {
		return err
	}
	if err := w.cancelRest(ctx); err != nil {
		return err
	}
	if w.unreadable > 0 {
		return fmt.Errorf("cancel the batch: the records of %d requests are damaged or were written by a newer version of kyclink; they are not called, and a newer version can end them", w.unreadable)
	}
	if err := finishCancelScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"batch": number, "cursor": after}).Err(); err != nil {
		return fmt.Errorf("cancel batch %d: %w", number, err)
	}
	return nil
}

// cancellation is one pass over the requests of a cancelled batch.
type cancellation struct {
	*Store
	number       int
	pending      bool // some requests may not have ended
	from         int  // the first chunk that may have open requests
	head, reason string
	unreadable   int
	report       func(ended int)
}

func (w *cancellation) prepare(ctx context.Context) error {
	var open *redis.FloatCmd
	var from *redis.StringCmd
	_, err := w.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		open = pipe.ZScore(ctx, w.keys.Cancelling(), strconv.Itoa(w.number))
		from = pipe.HGet(ctx, w.keys.Batch(w.number), "calloff")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("cancel batch %d: %w", w.number, err)
	}
	w.pending = open.Err() == nil
	_, _ = fmt.Sscan(from.Val(), &w.from) // 0 at first
	name, err := w.names.Name(ctx, w.number)
	if err != nil {
		return err
	}
	if w.head, err = event.Head(name); err != nil {
		return err
	}
	w.reason, err = event.Cancelled()
	return err
}

// cancelChunks cancels the rows of the batch's chunks, to which nothing is added any more. It
// returns the number after the last chunk.
func (w *cancellation) cancelChunks(ctx context.Context) (after int, err error) {
	last, err := w.LastChunk(ctx, w.number)
	if err != nil {
		return 0, err
	}
	at := w.from
	for ; at <= last; at += progressChunks {
		chunks, err := w.chunksAt(ctx, w.number, at, progressChunks)
		if err != nil {
			return 0, err
		}
		pages := make([][]string, len(chunks))
		for i, c := range chunks {
			pages[i] = orderIDs(c.Text)
		}
		if err := w.cancelPages(ctx, pages); err != nil {
			return 0, err
		}
		if w.unreadable > 0 {
			continue // the next pass begins with this chunk
		}
		if err := w.rdb.HSet(ctx, w.keys.Batch(w.number), "calloff", at+progressChunks).Err(); err != nil {
			return 0, fmt.Errorf("cancel batch %d: %w", w.number, err)
		}
	}
	return at, nil
}

// orderIDs returns the ids of a chunk. After the first line, each line is "row id".
func orderIDs(chunk string) []string {
	var ids []string
	for line := range strings.SplitSeq(chunk, "\n") {
		if _, id, ok := strings.Cut(line, " "); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// cancelRest ends requests that may be in no chunk, since an interrupted import may have
// accepted rows without writing their chunk. They are queued or requeued.
func (w *cancellation) cancelRest(ctx context.Context) error {
	for _, lane := range []request.Lane{request.Bulk, request.Interactive} {
		for cursor := uint64(0); ; {
			members, next, err := w.rdb.ZScan(ctx, w.keys.Queued(lane), cursor, "", pageSize).Result()
			if err != nil {
				return fmt.Errorf("read the queued requests: %w", err)
			}
			ids := make([]string, 0, len(members)/2)
			for i := 0; i < len(members); i += 2 { // each is followed by its score
				ids = append(ids, members[i])
			}
			if err := w.cancelPage(ctx, ids); err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	for from := int64(0); ; from += pageSize {
		ids, err := w.rdb.LRange(ctx, w.keys.CancelledRequeued(w.number), from, from+pageSize-1).Result()
		if err != nil {
			return fmt.Errorf("read the requeued requests: %w", err)
		}
		if err := w.cancelPage(ctx, ids); err != nil || len(ids) < pageSize {
			return err
		}
	}
}

func (w *cancellation) cancelPages(ctx context.Context, pages [][]string) error {
	ended := make([]int, len(pages))
	unread := make([]int, len(pages))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cancelConcurrency)
	for i, ids := range pages {
		group.Go(func() (err error) {
			one := *w
			one.report, one.unreadable = func(n int) { ended[i] += n }, 0
			err = one.cancelPage(ctx, ids)
			unread[i] = one.unreadable
			return err
		})
	}
	err := group.Wait()
	for i := range pages {
		w.unreadable += unread[i]
		w.report(ended[i])
	}
	return err
}

// cancelPage ends requests. It repeats the step for those whose run has changed meanwhile.
func (w *cancellation) cancelPage(ctx context.Context, ids []string) error {
	for len(ids) > 0 {
		now := ids[:min(len(ids), cancelRows)]
		ended, repeat, err := w.runScript(ctx, now)
		if err != nil {
			return err
		}
		w.report(ended)
		ids = append(repeat, ids[len(now):]...)
	}
	return nil
}

func (w *cancellation) runScript(ctx context.Context, ids []string) (ended int, repeat []string, err error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = w.keys.Record(id)
	}
	var clock keyspace.Clock
	var values *redis.SliceCmd
	if _, err := w.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock, values = w.keys.Clock(ctx, pipe), pipe.MGet(ctx, keys...)
		return nil
	}); err != nil {
		return 0, nil, fmt.Errorf("read %d requests: %w", len(ids), err)
	}
	at, err := clock.Time()
	if err != nil {
		return 0, nil, err
	}
	rows := lua.NewRows("id", "generation", "run", "event_id", "id_json", "tail")
	for i, v := range values.Val() {
		raw, ok := v.(string)
		if !ok {
			continue
		}
		r, err := request.ParseHeader(ids[i], []byte(raw))
		switch {
		case err != nil:
			w.unreadable++ // perhaps of another batch
		case r.Batch != w.number || r.State.Ended():
		default:
			idJSON, tail, err := event.Request(r)
			if err != nil {
				return 0, nil, err
			}
			rows.Add(r.ApplicationID, r.Generation, r.Run, r.EventID(w.keys.Account).String(), idJSON, tail)
		}
	}
	if rows.Len() == 0 {
		return 0, nil, nil
	}
	reply, err := cancelRequestsScript.Run(ctx, w.rdb, []string{w.keys.Tag()}, lua.Args{
		"batch": w.number, "at": event.Timestamp(at), "head": w.head, "reason": w.reason,
	}, rows).Slice()
	if err != nil {
		return 0, nil, fmt.Errorf("cancel %d requests: %w", len(ids), err)
	}
	n, _ := reply[0].(int64)
	for _, id := range reply[1:] {
		repeat = append(repeat, fmt.Sprint(id))
	}
	return int(n), repeat, nil
}
