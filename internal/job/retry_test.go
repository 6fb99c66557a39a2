package job

import (
	"testing"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestJob_RetriesFailedRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, id := range []string{"A-1", "A-2", "A-3", "G-1", "G-2"} {
		h.failed[id] = true
	}
	before := h.job("run", "A-1,"+done+",,", "A-2,,,", "A-3,,,", "C-1,,,", "G-1,,,", "G-2,,,")
	h.do(before)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "I-1"})
	h.Must(err)
	h.failed["I-1"] = true
	h.finish(h.get("I-1").Ref())
	h.failed = nil

	// A-2 is no longer in the file, A-3 is refused, and G-1 requests another generation.
	lines := []string{"A-1," + done + ",,", "A-1,,,", "N-1,,,", "A-3,https://other.example,,", "C-1,,,", "G-1,,,2", "G-2,,,1", "I-1,,interactive,"}
	j := h.job("run", lines...)
	h.do(j)
	expect(t, h.write(j), "A-1 failed 1 0 invalid_request", "A-1 failed 1 0 invalid_request", "N-1 created L-N-1-1 1 0", "A-3 rejected 0 0 conflict",
		"C-1 created L-C-1-1 1 0", "G-1 created L-G-1-2 1 0", "G-2 failed 1 0 invalid_request", "I-1 failed 1 0 invalid_request")

	j = h.job("run", lines...)
	j.RetryFailed = true
	drive := j.OnProgress
	j.OnProgress = func(p Progress) {
		if r := h.get("I-1"); p.AllAccepted && r.State == request.Queued {
			task := "asynq:{" + h.Keys.Queue(request.Interactive) + "}:t:" + r.Ref().String()
			if n, err := h.Redis.Exists(t.Context(), task).Result(); err != nil || n != 1 {
				t.Errorf("a retried interactive row has no task: %v", err)
			}
			h.finish(r.Ref())
		}
		drive(p)
	}
	h.do(j)
	expect(t, h.write(j), "A-1 created L-A-1-1 2 0", "A-1 created L-A-1-1 2 0", "N-1 created L-N-1-1 1 0", "A-3 rejected 0 0 conflict",
		"C-1 created L-C-1-1 1 0", "G-1 created L-G-1-2 1 0", "G-2 created L-G-2-1 2 0", "I-1 created L-I-1-1 2 0")
	for _, id := range []string{"A-2", "A-3"} {
		if r := h.get(id); r.State != request.Failed || r.Run != 1 {
			t.Errorf("%s, which no row requests, is %s in run %d; want failed in run 1", id, r.State, r.Run)
		}
	}
}

// Only the generation that a row requests is retried, not the one before or after it.
func TestJob_RetriesNoOtherGeneration(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	retry := func(line string) []string {
		t.Helper()
		j := h.job("run", line)
		j.RetryFailed = true
		h.do(j)
		return h.write(j)
	}
	h.failed["A-1"] = true
	h.do(h.job("run", "A-1,,,"))
	expect(t, retry("A-1,,,2"), "A-1 failed 1 0 invalid_request")
	expect(t, retry("A-1,,,1"), "A-1 failed 1 0 invalid_request")
	if h.calls["A-1"] != 2 {
		t.Errorf("A-1 was called %d times, want once for each of 2 generations", h.calls["A-1"])
	}
}
