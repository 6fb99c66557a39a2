package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Alone(m) }

// TestRun_FindsNoProblemInAShortRun runs everything once. It is too short to judge growth.
func TestRun_FindsNoProblemInAShortRun(t *testing.T) {
	var out, notes strings.Builder
	cfg := config{kyclink: fixture.ProgramFor(t, fixture.Build{CallbackPace: 400}), dir: t.TempDir(), duration: 12 * time.Second, rate: 20, workers: 2, notes: &notes}
	problems, err := run(t.Context(), cfg, &out)
	if err != nil || len(problems) > 0 {
		t.Fatalf("error %v; problems: %q\n%s\n%s", err, problems, out.String(), notes.String())
	}
	if want := "growth is not judged in a run of less than 20m0s"; !strings.Contains(out.String(), want) {
		t.Errorf("the output does not contain %q", want)
	}
	t.Log(out.String(), notes.String())
}

// TestOpen_FailsTheRunIfAProcessEnds kills a worker, as the system does if memory is short.
func TestOpen_FailsTheRunIfAProcessEnds(t *testing.T) {
	failed := make(chan error, 1)
	cfg := config{kyclink: fixture.ProgramFor(t, fixture.Build{CallbackPace: 400}), dir: t.TempDir(), duration: time.Minute, rate: 20, workers: 1}
	r, err := open(t.Context(), cfg, func(err error) { failed <- err })
	fixture.Must(t, err)
	defer r.close()
	r.processes[0].Signal(syscall.SIGKILL)
	select {
	case err := <-failed:
		if !strings.HasPrefix(err.Error(), "worker 1 ended unexpectedly (signal: killed)") {
			t.Errorf("the run failed with %q, want the end of the worker", err)
		}
	case <-time.After(time.Minute):
		t.Error("the run did not fail")
	}
}

func TestUnexpected_FindsLinesOutsideOutages(t *testing.T) {
	log := `{"level":"warn","time":"2026-11-30T10:00:05Z","msg":"call failed"}
{"level":"warn","time":"2026-11-30T10:01:00Z","msg":"heartbeat failed"}
{"level":"warn","time":"2026-11-30T10:01:00Z","msg":"the call was stopped before it was sent","message":"the call was stopped before it was sent (not sent in time after the grant)"}
kyclink: SIMULATED: links come from the simulator at http://127.0.0.1:1, not from FaceKi
panic: runtime error
`
	outage := func(at time.Time) bool { return at.Equal(time.Date(2026, 11, 30, 10, 0, 5, 0, time.UTC)) }
	lines, late, err := unexpected(strings.NewReader(log), outage)
	fixture.Must(t, err)
	if late != 1 {
		t.Errorf("%d calls were not sent in time, want 1", late)
	}
	if len(lines) != 2 || !strings.Contains(lines[0], "heartbeat failed") || lines[1] != "panic: runtime error" {
		t.Errorf("lines %q, want that of the heartbeat and that of the panic", lines)
	}
}

func TestBook_KnowsWhatIsLost(t *testing.T) {
	b := newBook()
	created := func(id string) tasks.Event {
		return tasks.Event{Type: tasks.EventCreated, Data: tasks.EventData{ApplicationID: id}}
	}
	b.request("batch-000001-1", false)
	b.request("H-1", true)
	b.request("H-2", true)
	if !b.awaits("batch-000001") || b.awaits("batch-000002") {
		t.Error("only the first batch has something that is awaited")
	}
	b.event(created("batch-000001-1"))
	b.event(created("batch-000001-1"))
	b.received("H-1") // may arrive before the event is read
	b.event(created("H-1"))
	b.event(created("H-2"))
	if lost := b.lost(); len(lost) != 1 || lost[0] != "1 callbacks did not arrive, such as H-2" {
		t.Errorf("lost %q, want the callback of H-2", lost)
	}
	if ids := strings.Join(b.takeFinished(9), " "); ids != "batch-000001-1 H-1" {
		t.Errorf("%q may be forgotten, want batch-000001-1 and H-1", ids)
	}
	if want := (counts{requests: 3, links: 3, callbacks: 1, forgotten: 2}); b.counts != want {
		t.Errorf("counts %+v, want %+v", b.counts, want)
	}
	b.request("H-3", false)
	b.event(tasks.Event{Type: tasks.EventFailed, Data: tasks.EventData{ApplicationID: "H-3", Reason: "timeout"}})
	if len(b.problems) != 1 || b.problems[0] != "H-3 got link.failed (timeout)" {
		t.Errorf("problems %q, want that of H-3", b.problems)
	}
}

func TestKindOf_NamesKinds(t *testing.T) {
	const tag = "{kyclink:default}"
	for key, want := range map[string]string{
		tag + "/A-1001":        "record",
		tag + "/a:b":           "record",
		tag + ":delivery:0c4f": "delivery",
		tag + ":batch:12":      "batch",
		tag + ":results":       "results",
		"asynq:{kyclink:default:interactive}:t:A 1 1": "task",
		"asynq:{kyclink:default:bulk}:active":         "other",
		"asynq:servers":                               "other",
		"{kyclink:other}/A-1001":                      "other",
	} {
		if got := kindOf(key, tag); got != want {
			t.Errorf("%s is of kind %q, want %q", key, got, want)
		}
	}
}
