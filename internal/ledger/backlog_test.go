package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// TestBacklogIsExact holds that what the account counts as waiting is what its
// records say, and the batches' counters too, through every transition of the state
// table and everything that puts records back or takes them away.
func TestBacklogIsExact(t *testing.T) {
	t.Parallel()
	columns, _ := stateTable(t)
	own := redistest.Start(t) // as in TestAnyInterleaving
	rapid.Check(t, func(rt *rapid.T) {
		b := newBenchAt(t, own)
		defer func() { b.must(b.rdb.FlushDB(t.Context()).Err()) }()
		id := rapid.Map(rapid.IntRange(1, 3), func(n int) string { return fmt.Sprintf("A-%d", n) })
		restored := 0
		all := map[string]func(*rapid.T){
			"": func(*rapid.T) { b.expectBacklog() },
			"again interactive": func(rt *rapid.T) {
				_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: id.Draw(rt, "id"), Generation: 3})
				if err != nil && tasks.ReasonOf(err) != "generation_gap" {
					t.Fatal(err)
				}
			},
			"accept": func(rt *rapid.T) {
				b.importInto(rapid.SampledFrom([]string{"spring", "autumn", "winter"}).Draw(rt, "batch"), id.Draw(rt, "id"))
			},
			"paused": func(rt *rapid.T) {
				b.steer("spring", ledger.PauseBatch)
				if r, known := b.get(id.Draw(rt, "id")); known {
					b.tryMark(b.ledger, r.Ref())
				}
				b.steer("spring", ledger.ResumeBatch)
			},
			"sweep": func(*rapid.T) {
				for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
					_, _, err := b.ledger.Overdue(t.Context(), lane, -time.Second)
					b.must(err)
				}
				_, _, err := b.ledger.Lost(t.Context(), "")
				b.must(err)
			},
			"retire": func(*rapid.T) {
				keeper := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Retention: time.Millisecond})
				_, err := keeper.Retire(t.Context(), 0)
				b.must(err)
			},
			"restore": func(rt *rapid.T) {
				restored++
				b.must(b.ledger.Restore(t.Context(), "spring", []request.Record{{
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
				if _, known := b.get(subject); known {
					transitions[column](b, subject)
				}
			}
		}
		rt.Repeat(all)
	})
}

func (b *bench) expectBacklog() {
	b.t.Helper()
	var want ledger.Backlog
	waiting := map[int]int{}
	for _, r := range b.records() {
		switch {
		case r.State == request.Waiting && r.Lane == request.Interactive:
			b.t.Fatalf("nothing feeds %+v", r)
		case r.State == request.Waiting:
			waiting[r.Batch]++
			want.Bulk++
		case r.State == request.Queued && r.Lane == request.Bulk:
			want.Bulk++
		case r.State == request.Queued:
			want.Interactive++
		}
	}
	_, got, _, err := b.ledger.Account(b.t.Context())
	b.must(err)
	if got != want {
		b.t.Fatalf("the backlog is %+v, the records say %+v", got, want)
	}
	for batch := range 4 {
		if counts, _ := b.counts(batch); counts["waiting"] != waiting[batch] {
			b.t.Fatalf("batch %d counts %d that wait, the records say %d", batch, counts["waiting"], waiting[batch])
		}
	}
}
