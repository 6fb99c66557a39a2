package asynqx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with asynq's own view of its interactive queue.
type harness struct {
	*fixture.Account

	inspector *asynq.Inspector
	queue     Queue
}

func newHarness(t *testing.T) *harness {
	a := fixture.NewAccount(t)
	return &harness{a, asynq.NewInspectorFromRedisClient(a.Redis), NewQueue(a.Redis, a.Keys.Account, request.Interactive)}
}

// expectNoTasks waits until asynq has no task left, in any state.
func (h *harness) expectNoTasks() {
	h.Helper()
	h.Eventually("no task is left", func() bool {
		return len(h.Redis.Keys(context.Background(), h.queue.key("t:*")).Val()) == 0
	})
	for _, set := range []string{"active", "lease", "retry", "scheduled", "archived", "completed", "pending"} {
		if h.Redis.Exists(context.Background(), h.queue.key(set)).Val() > 0 {
			h.Errorf("asynq's key %s is not empty", set)
		}
	}
}

// serve starts an asynq server that handles the tasks of the queue.
func (h *harness) serve(handle asynq.HandlerFunc) *asynq.Server {
	h.Helper()
	s := asynq.NewServerFromRedisClient(h.Redis, asynq.Config{
		Concurrency: 10, Queues: map[string]int{h.Keys.Queue(request.Interactive): 1}, TaskCheckInterval: 5 * time.Millisecond,
		DelayedTaskCheckInterval: time.Hour, RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
		LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Second,
	})
	h.Must(s.Start(handle))
	h.Cleanup(s.Shutdown)
	return s
}

// Queue reads and changes asynq's own keys. In this test asynq itself brings tasks to each
// state, and runs them after Queue has changed them, so that it fails if another version
// of asynq stores them differently.
func TestQueue_ReadsAndChangesTasksAsAsynqStoresThem(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	q := h.queue
	client := asynq.NewClientFromRedisClient(h.Redis)
	state := func(id string) string {
		info, err := h.inspector.GetTaskInfo(q.Name(), id)
		if errors.Is(err, asynq.ErrTaskNotFound) {
			return ""
		}
		h.Must(err)
		return info.State.String()
	}
	put := func(id string, options ...asynq.Option) {
		_, err := client.Enqueue(asynq.NewTask(linktask.Type, []byte("an invented payload")), append(options, asynq.TaskID(id), asynq.Queue(q.Name()))...)
		h.Must(err)
	}
	// The ids name the states. The handlers of "active" and "gone" do not return before release.
	release := make(chan struct{})
	s := h.serve(func(ctx context.Context, _ *asynq.Task) error {
		switch id, _ := asynq.GetTaskID(ctx); id {
		case "retry:1:1:1":
			return errors.New("again")
		case "archived:1:1:1", "lost:1:1:1":
			return asynq.SkipRetry
		case "completed:1:1:1":
			return nil
		}
		<-release
		return nil
	})
	put("scheduled:1:1:1", asynq.ProcessIn(time.Hour))
	put("completed:1:1:1", asynq.Retention(time.Hour))
	for _, is := range []string{"active", "gone", "retry", "archived", "lost"} {
		put(is + ":1:1:1")
	}
	want := map[string]string{
		"active": "active", "gone": "active", "retry": "retry", "archived": "archived", "lost": "archived",
		"scheduled": "scheduled", "completed": "completed", "nobody": "",
	}
	var ids, states []string
	for is, s := range want {
		ids, states = append(ids, is+":1:1:1"), append(states, s)
	}
	read := func() []string {
		got, err := q.States(t.Context(), ids)
		h.Must(err)
		return got
	}
	h.Eventually("each task is in its state", func() bool {
		for i, id := range ids {
			if state(id) != states[i] {
				return false
			}
		}
		return true
	})
	s.Stop() // starts no further task
	if got := read(); !slices.Equal(got, states) {
		t.Errorf("states of %v: got %v, want %v", ids, got, states)
	}
	sets := func(ids []string, err error) string { h.Must(err); slices.Sort(ids); return fmt.Sprint(ids) }
	if got := sets(q.Active(t.Context())); got != "[active:1:1:1 gone:1:1:1]" {
		t.Errorf("got active tasks %s", got)
	}
	if got := sets(q.Archived(t.Context())); got != "[archived:1:1:1 lost:1:1:1]" {
		t.Errorf("got archived tasks %s", got)
	}

	messages, err := q.Messages(t.Context())
	h.Must(err)
	for is, id := range map[string]string{"active": "active:1:1:1", "retry": "retry:1:1:1"} {
		if m := messages[id]; m.State != is || string(m.Payload()) != "an invented payload" {
			t.Errorf("message of %s: got state %q and payload %q", id, m.State, m.Payload())
		}
	}
	if len(messages) != 3 { // with gone, and without those that asynq will not run
		t.Errorf("got %d messages, want 3", len(messages))
	}

	for _, id := range []string{"gone:1:1:1", "lost:1:1:1"} {
		m, err := q.Message(t.Context(), id)
		h.Must(err)
		if !m.Readable(id) || m.Readable("another:1:1:1") || m.Raw == "" {
			t.Errorf("message of %s: got %q, which is not readable or is readable as another task", id, m.Raw)
		}
		if ok, err := q.Remove(t.Context(), id, Message{m.State, m.Raw + "x"}); ok || err != nil {
			t.Errorf("remove %s with another message: got %t, %v; want false", id, ok, err)
		}
		if ok, err := q.Remove(t.Context(), id, m); !ok || err != nil || state(id) != "" {
			t.Errorf("remove %s: got %t, %v, and it is in state %q", id, ok, err, state(id))
		}
	}
	for _, id := range []string{"active:1:1:1", "archived:1:1:1"} {
		if ok, err := q.Requeue(t.Context(), id); !ok || err != nil {
			t.Errorf("requeue %s: got %t, %v; want true", id, ok, err)
		}
		if ok, err := q.Requeue(t.Context(), id); ok || err != nil {
			t.Errorf("requeue %s again: got %t, %v; want false", id, ok, err)
		}
	}
	h.Must(q.Run(t.Context(), "retry:1:1:1"))
	h.Must(q.Run(t.Context(), "scheduled:1:1:1"))
	h.Must(q.Run(t.Context(), "scheduled:1:1:1")) // it is pending or active now
	h.Must(q.Run(t.Context(), "nobody:1:1:1"))
	completed := request.Ref{ApplicationID: "completed", Generation: 1, Run: 1, Turn: 1}
	h.Must(q.Delete(completed.String()))
	h.Must(q.Delete("nobody:1:1:1"))
	h.Must(linktask.Enqueue(t.Context(), client, h.Keys.Account, request.Interactive, completed))

	close(release)
	s.Shutdown()
	h.serve(func(context.Context, *asynq.Task) error { return nil })
	h.expectNoTasks()
}

func TestMessage_IsReadableWhenAsynqCanDecodeIt(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	q := h.queue
	const id = "A-1:1:1:1"
	_, err := asynq.NewClientFromRedisClient(h.Redis).Enqueue(asynq.NewTask(linktask.Type, nil), asynq.TaskID(id), asynq.Queue(q.Name()))
	h.Must(err)
	m, err := q.Message(t.Context(), id)
	h.Must(err)
	broken := 0
	for at := range len(m.Raw) {
		for _, put := range []string{"\x00", "\xff", "0", ""} {
			raw := m.Raw[:at] + put + m.Raw[at+1:]
			h.Must(h.Redis.HSet(t.Context(), q.key("t:"+id), "msg", raw).Err())
			info, err := h.inspector.GetTaskInfo(q.Name(), id)
			want := err == nil && info.ID == id
			if got := (Message{Raw: raw}).Readable(id); got != want {
				t.Fatalf("%q: got readable %t, but asynq reads it with error %v", raw, got, err)
			}
			if !want {
				broken++
			}
		}
	}
	if broken == 0 {
		t.Error("asynq reads every damaged message, so that the test proves nothing")
	}
}
