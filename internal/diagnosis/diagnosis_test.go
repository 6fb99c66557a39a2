package diagnosis

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

func TestSnapshot_Why(t *testing.T) {
	at := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	link := func(l tasks.Link) *tasks.Link {
		if l.ApplicationID = "A-1"; l.Lane == "" {
			l.Lane = tasks.Interactive
		}
		return &l
	}
	queued := link(tasks.Link{Status: tasks.Queued})
	bulk := link(tasks.Link{Status: tasks.Waiting, Lane: tasks.Bulk, Batch: "spring"})
	paused := &batch.Batch{Batch: "spring", Status: batch.Paused, Reason: fault.Paused}
	refused := &batch.Batch{Batch: "spring", Status: batch.Paused, Reason: fault.RowsRefused, Message: "redirectUrl is wrong"}
	down := admission.GateStatus{State: "closed", Reason: "outage", Since: at, NextProbe: at.Add(5 * time.Second)}
	rate := admission.RateStatus{Limit: "5/s", Burst: 5}
	for _, tt := range []struct {
		name string
		s    Snapshot
		want string
	}{
		{"nothing", Snapshot{Workers: 1, Rate: rate}, ""},
		{"ended", Snapshot{Link: link(tasks.Link{Status: tasks.Created})}, ""},
		{"no worker", Snapshot{Account: "default", Gate: down, Link: queued}, `no worker is running for account "default"; start one with kyclink worker`},
		{"no worker, and its call has no answer", Snapshot{Account: "a", Link: link(tasks.Link{Status: tasks.Calling})}, `no worker is running for account "a"; start one with kyclink worker`},
		{"calling", Snapshot{Workers: 1, Gate: down, Link: link(tasks.Link{Status: tasks.Calling})}, "its call was sent, and FaceKi has not answered yet"},
		{"held", Snapshot{Link: link(tasks.Link{Status: tasks.Held, Reason: "unusable_answer", Message: "no URL"})},
			"it is held for an operator (unusable_answer: no URL); kyclink show A-1 shows what to do"},
		{"paused batch", Snapshot{Workers: 1, Gate: down, Link: bulk, Batch: paused}, `batch "spring" is paused; kyclink batch resume spring continues it`},
		{"paused batch alone", Snapshot{Workers: 1, Batch: paused}, `batch "spring" is paused; kyclink batch resume spring continues it`},
		{"batch whose rows are refused", Snapshot{Workers: 1, Link: bulk, Batch: refused},
			`batch "spring" is paused: 20 of its calls in a row were refused as wrong, the last one with: redirectUrl is wrong; correct that, then kyclink batch resume spring continues it`},
		{"an interactive request of a paused batch", Snapshot{Workers: 1, Link: link(tasks.Link{Status: tasks.Queued, Batch: "spring"}), Batch: paused}, ""},
		{"paused account", Snapshot{Account: "default", Workers: 1, Gate: admission.GateStatus{State: "closed", Reason: "paused", Since: at}, Link: queued},
			`account "default" is paused since 2026-11-29T10:00:00Z; kyclink account resume continues it`},
		{"outage", Snapshot{Workers: 1, Gate: down, Link: queued}, "the gate is closed since 2026-11-29T10:00:00Z (outage), next probe 2026-11-29T10:00:05Z"},
		{"refused", Snapshot{Workers: 1, Gate: admission.GateStatus{State: "closed", Reason: "refused", Message: "FaceKi refuses the credentials (HTTP 401)", Since: at}},
			"the gate is closed since 2026-11-29T10:00:00Z (refused: FaceKi refuses the credentials (HTTP 401))"},
		{"probing", Snapshot{Workers: 1, Gate: admission.GateStatus{State: "probing", Reason: "outage", Since: at}, Link: queued}, "the gate is probing since 2026-11-29T10:00:00Z (outage)"},
		{"ramping", Snapshot{Workers: 1, Gate: admission.GateStatus{State: "ramping", Since: at}, Rate: rate}, "the gate is open again since 2026-11-29T10:00:00Z, and the rate is rising to 5/s"},
		{"after a fault", Snapshot{Workers: 1, Rate: rate, RetryAt: at,
			Link: link(tasks.Link{Status: tasks.Queued, Attempts: 2, Reason: "upstream_error", Message: "FaceKi failed (HTTP 500)"})},
			"attempt 2 created no link (upstream_error: FaceKi failed (HTTP 500)); the next one is due 2026-11-29T10:00:00Z"},
		{"turn", Snapshot{Workers: 1, Rate: rate, Backlog: account.Backlog{Interactive: 600, Bulk: 100_000}, Link: queued},
			"600 interactive requests wait for their turn at 5/s, which takes about 2m0s"},
		{"bulk turn", Snapshot{Workers: 1, Rate: rate, Backlog: account.Backlog{Interactive: 100, Bulk: 500}, Link: bulk},
			"600 requests wait for their turn at 5/s, which takes about 2m0s"},
		{"short turn", Snapshot{Workers: 1, Rate: rate, Backlog: account.Backlog{Interactive: 5}, Link: queued}, ""},
	} {
		if got := tt.s.Why(); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}
