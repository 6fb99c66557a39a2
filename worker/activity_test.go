package worker

import (
	"fmt"
	"maps"
	"testing"

	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// activitySum adds up the last hour.
func (h *harness) activitySum() (links int, faults map[fault.Reason]int) {
	h.Helper()
	hour, err := activity.NewStore(h.Redis, h.Keys).Hour(h.Context())
	h.Must(err)
	faults = map[fault.Reason]int{}
	for _, m := range hour.Minutes {
		links += m.Created
		for reason, n := range m.Faults {
			faults[reason] += n
		}
	}
	return links, faults
}

// A worker that stops loses none of its counts; one that lives flushes with its heartbeats.
func TestWorkers_CountLinksAndFaultsForTheActivity(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{Rules: []simulator.Rule{
		{Match: "wrong-*", Fault: simulator.Fault{Name: "code_5002"}},
		{Match: "busy-*", Fault: simulator.Fault{Name: "http_503"}, Times: 1},
	}})
	one, two := h.start(h.book(), h.faceki), h.start(h.book(), h.faceki)
	const rows = 30
	h.batch("row", rows)
	h.accept("wrong-1")
	h.accept("busy-1")
	h.created("busy-1")
	h.Eventually("living workers have flushed all", func() bool {
		links, faults := h.activitySum()
		return links == rows+1 && faults[fault.InvalidRequest] == 1 && faults[fault.UpstreamUnavailable] == 1
	})
	for i := range rows {
		h.accept(fmt.Sprintf("signup-%d", i))
	}
	h.Eventually("all have their links", func() bool { return h.sim.State().Links >= 2*rows+1 })
	h.Must(one.stop())
	h.Must(two.stop())
	for i := range rows {
		h.expect(fmt.Sprintf("signup-%d", i), request.Created, 1, 0)
	}
	want := map[fault.Reason]int{fault.InvalidRequest: 1, fault.UpstreamUnavailable: 1}
	if links, faults := h.activitySum(); links != 2*rows+1 || !maps.Equal(faults, want) {
		t.Errorf("the activity has %d links and faults %v, want %d and %v", links, faults, 2*rows+1, want)
	}
}
