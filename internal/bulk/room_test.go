package bulk

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// A job of more rows than may wait takes what there is room for, and gives up when
// nothing comes of it; OUT then says of the others why they were not accepted.
func TestJobWaitsForRoom(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	rows := []string{"A-1,,,", "A-2,,,", "A-3,,,", "A-4,,,", "A-5,,,"}
	j := h.job("spring", rows...)
	j.Patience, j.Report = lookPause, nil
	j.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 2, OnFull: j.Full})
	p, err := j.Work(t.Context())
	if !errors.Is(err, ErrImpatient) || p.Open() != 2 || p.Imported {
		t.Fatalf("it ended with %v at %+v", err, p)
	}
	summary, err := j.Export(t.Context(), h.out)
	if err != nil || summary.Summary[tasks.Waiting] != 2 || summary.Summary[Rejected] != 3 {
		t.Errorf("OUT has %v, %v", summary, err)
	}
	out, err := os.ReadFile(h.out)
	if h.Must(err); strings.Count(string(out), "backlog_full: the backlog of the bulk lane is full (KYCLINK_MAX_BACKLOG is 2)") != 3 {
		t.Errorf("OUT is\n%s", out)
	}

	// While something comes of it, it waits however long that takes.
	j = h.job("spring", rows...)
	j.Patience = time.Minute
	driven := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 2, OnFull: func(full *tasks.BacklogError) {
		j.Full(full)
		h.finish(h.feed()...)
	}})
	j.Client = driven
	if p, err := j.Work(t.Context()); err != nil || p.Counts["created"] != 5 {
		t.Errorf("it ended with %v at %+v", err, p)
	}
}
