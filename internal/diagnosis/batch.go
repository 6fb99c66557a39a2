package diagnosis

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/request"
)

// Batch says whether a batch gets its links, and if not, why. It needs the batch's
// throughput and ETA.
func Batch(s Snapshot, b batch.Batch) Diagnosis {
	open, others := b.Open(), leftOver(b)
	var f Finding
	switch {
	case b.Status == batch.Cancelled:
		f = Finding{State: Idle, Code: Ended, Text: fmt.Sprintf("Batch %q was cancelled.", b.Batch)}
	case open == 0:
		f = Finding{State: Idle, Code: Ended, Text: fmt.Sprintf("Batch %q is done: %s have links.", b.Batch, rowsOf(b.Counts[request.Created]+b.JoinedCounts[request.Created], b.Rows))}
	default:
		f = s.openBatch(b)
		if paused, ok := pausedBatch(b); ok {
			others = append([]Finding{paused}, others...)
		}
	}
	return Diagnosis{Finding: f}.with(others)
}

// pausedBatch applies if the batch is paused and has requests that wait for that reason.
func pausedBatch(b batch.Batch) (Finding, bool) {
	f, ok := Snapshot{Paused: Paused{Batches: 1, First: []batch.Batch{b}}}.paused()
	return f, ok && b.Status == batch.Paused
}

func rowsOf(n, of int) string {
	return fmt.Sprintf("%s of %s", humanize.Comma(int64(n)), count(of, "row"))
}

// openBatch diagnoses a batch with rows that wait, are queued or are called.
func (s Snapshot) openBatch(b batch.Batch) Finding {
	own := s
	own.Interactive, own.Bulk, own.Intake = Lane{}, Lane{Queued: b.Open()}, Intake{}
	if f, ok := first(own, []rule{redisFull, redisWriteFails, redisReadOnly, noWorker}); ok {
		return f
	}
	if f, ok := pausedBatch(b); ok {
		return f
	}
	if f, ok := first(own, []rule{gateClosed, ramping}); ok {
		return f
	}
	if f, ok := first(s, []rule{retriesOnly, noProgress, concurrencyLimited}); ok {
		return f
	}
	f := Finding{State: Flowing, Code: LinksCreated, ClearsAt: b.ETA}
	if b.Throughput == 0 {
		f.State, f.Code = Waiting, InQueue
		f.Text = fmt.Sprintf("%s of batch %q wait for their turn among %s at the allowed rate of %s.", count(b.Open(), "row"), b.Batch, count(s.backlog(), "request"), s.Rate.Limit)
		return f
	}
	f.Text = fmt.Sprintf("Links are created for batch %q at %.1f/s; %s are open", b.Batch, b.Throughput, count(b.Open(), "row"))
	if left := b.ETA.Sub(s.At); !b.ETA.IsZero() && left > time.Second {
		f.Text += ", which take " + about(left)
	}
	f.Text += "."
	return f
}

// leftOver are the rows of a batch that need a person.
func leftOver(b batch.Batch) (found []Finding) {
	if n := b.Counts[request.Held]; n > 0 {
		found = append(found, Finding{
			State: Stuck, Code: Held, Text: fmt.Sprintf("%s held until a person decides.", are(n, "request", "requests")),
			Next: "kyclink held list --batch " + quoted(b.Batch),
		})
	}
	if n := b.Counts[request.Failed]; n > 0 {
		found = append(found, Finding{
			State: Flowing, Code: FailedRequests, Text: fmt.Sprintf("%s failed.", counted(n, "request", "requests")),
			Next: fmt.Sprintf("kyclink failed list --batch %[1]s, then kyclink batch retry %[1]s", quoted(b.Batch)),
		})
	}
	return found
}
