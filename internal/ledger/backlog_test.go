package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// The backlog that the account counts, and the batches' counters, equal the records after
// every transition of the state table, and after everything that restores or removes
// records.
func TestBacklog_EqualsTheRecordsAfterEveryTransition(t *testing.T) {
	t.Parallel()
	columns, _ := stateTable(t)
	own := redistest.Start(t) // as in TestLedger_KeepsItsInvariantsInAnyInterleaving
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarnessOn(t, own)
		defer func() { h.Must(h.Redis.FlushDB(t.Context()).Err()) }()
		id := rapid.Map(rapid.IntRange(1, 3), func(n int) string { return fmt.Sprintf("A-%d", n) })
		restored := 0
		all := map[string]func(*rapid.T){
			"": func(*rapid.T) { h.expectBacklog() },
			"enqueue generation 3": func(rt *rapid.T) {
				_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: id.Draw(rt, "id"), Generation: 3})
				if err != nil && tasks.ReasonOf(err) != "generation_gap" {
					t.Fatal(err)
				}
			},
			"accept": func(rt *rapid.T) {
				h.ImportInto(rapid.SampledFrom([]string{"spring", "autumn", "winter"}).Draw(rt, "batch"), id.Draw(rt, "id"))
			},
			"paused": func(rt *rapid.T) {
				h.Control("spring", batch.Pause)
				if r, known := h.Get(id.Draw(rt, "id")); known {
					h.TryAdmit(h.Stores, r.Ref())
				}
				h.Control("spring", batch.Resume)
			},
			"recover": func(*rapid.T) {
				for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
					_, _, err := h.Stores.Requests.Overdue(t.Context(), lane, -time.Second)
					h.Must(err)
				}
				_, _, err := h.Stores.Requests.LostCalls(t.Context(), "")
				h.Must(err)
			},
			"retire": func(*rapid.T) {
				keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Millisecond})
				_, err := keeper.Erasure.EraseExpired(t.Context(), 0)
				h.Must(err)
			},
			"restore": func(rt *rapid.T) {
				restored++
				h.Must(h.Stores.Requests.Restore(t.Context(), "spring", []request.Record{{
					ApplicationID: fmt.Sprintf("R-%d", restored), Generation: 1, Run: 1, Turn: 1, AcceptedAt: time.UnixMilli(1e12), ChangedAt: time.UnixMilli(1e12),
					State: rapid.SampledFrom([]request.State{request.Waiting, request.Queued, request.Calling}).Draw(rt, "state"),
					Lane:  rapid.SampledFrom([]request.Lane{request.Interactive, request.Bulk}).Draw(rt, "lane"),
				}}))
			},
		}
		for _, column := range columns {
			if all[column] != nil {
				continue
			}
			all[column] = func(rt *rapid.T) {
				subject := id.Draw(rt, "id")
				if _, known := h.Get(subject); known {
					h.Do(subject, column)
				}
			}
		}
		rt.Repeat(all)
	})
}

// expectBacklog compares the backlog and the waiting requests of each batch with the
// records.
func (h *harness) expectBacklog() {
	h.Helper()
	var want account.Backlog
	waiting := map[int]int{}
	for _, r := range h.Records() {
		switch {
		case r.State == request.Waiting && r.Lane == request.Interactive:
			h.Fatalf("%+v is waiting, but only the bulk lane is fed", r)
		case r.State == request.Waiting:
			waiting[r.Batch]++
			want.Bulk++
		case r.State == request.Queued && r.Lane == request.Bulk:
			want.Bulk++
		case r.State == request.Queued:
			want.Interactive++
		}
	}
	_, got, _, err := h.Stores.Account.Summary(h.Context())
	h.Must(err)
	if got != want {
		h.Fatalf("the backlog is %+v, the records have %+v", got, want)
	}
	for batch := range 4 {
		if counts, _ := h.BatchCounters(batch); counts["waiting"] != waiting[batch] {
			h.Fatalf("batch %d counts %d waiting requests, the records have %d", batch, counts["waiting"], waiting[batch])
		}
	}
}
