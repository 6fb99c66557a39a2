package batch

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
)

var refreshScript = scripts.Script("refresh.lua")

// refreshRows is the number of requests of one script, which must not block Redis for long.
const refreshRows = 100

// Requests iterates over the batch's own requests (not joined ones) in input order, up to
// 500 at a time. Records that cannot be decoded are omitted.
func (s *Store) Requests(ctx context.Context, batch int) iter.Seq2[[]request.Record, error] {
	return func(yield func([]request.Record, error) bool) {
		for rows, err := range s.Order(ctx, batch) {
			var page []request.Record
			if err == nil {
				page, err = s.own(ctx, batch, rows)
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

func (s *Store) own(ctx context.Context, batch int, rows []order.Row) ([]request.Record, error) {
	var ids []string
	seen := make(map[string]bool, len(rows)) // rows may repeat an id
	for _, row := range rows {
		if id := row.ApplicationID; id != "" && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	found, err := s.records.Headers(ctx, ids)
	return slices.DeleteFunc(found, func(r request.Record) bool { return r.Batch != batch }), err
}

// LinkExpired reports whether a request has a link that has expired.
func LinkExpired(r request.Record, now time.Time) bool {
	return r.State == request.Created && !r.Outcome.ExpiresAt.IsZero() && !now.Before(r.Outcome.ExpiresAt)
}

// Refresh starts the next generation of requests whose links have expired, and returns their
// ids. Requests that have changed since they were read are omitted. The new generation keeps
// its batch and row, waits to be fed, and has a not_after only if one is given.
func (s *Store) Refresh(ctx context.Context, batch int, records []request.Record, notAfter time.Time) (refreshed []string, err error) {
	due := ""
	if !notAfter.IsZero() {
		due = strconv.FormatInt(notAfter.UnixMilli(), 10)
	}
	for page := range slices.Chunk(records, refreshRows) {
		rows := lua.NewRows("id", "generation", "run", "content")
		for _, r := range page {
			r.Content.NotAfter = notAfter
			content, err := r.Content.AppendStored(nil)
			if err != nil {
				return refreshed, fmt.Errorf("encode %s: %w", r.ApplicationID, err)
			}
			rows.Add(r.ApplicationID, r.Generation, r.Run, content)
		}
		ids, err := refreshScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"not_after": due, "batch": batch}, rows).StringSlice()
		if err != nil {
			return refreshed, fmt.Errorf("refresh %d requests: %w", len(page), err)
		}
		refreshed = append(refreshed, ids...)
	}
	return refreshed, nil
}
