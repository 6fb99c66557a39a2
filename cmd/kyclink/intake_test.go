package main

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

const (
	intakeStream = "{kyclink:default}:requests"
	rejectStream = "{kyclink:default}:rejects"
)

// entries returns entries of the intake stream: requests in both formats, some of them
// twice, and an invalid entry in every ten.
func entries(from, to int) (all [][]any, bad map[int]bool) {
	bad = map[int]bool{}
	for i := from; i < to; i++ {
		id := fmt.Sprintf("S-%06d", i)
		switch i % 10 {
		case 3:
			bad[len(all)] = true
			all = append(all, [][]any{
				{"request", `{"application_id":"` + id}, {"application_id", id, "redirect", "x"}, {"application_id", id, "lane", ""}, {"application_id", id + " x"},
			}[i/10%4])
		case 7:
			all = append(all, []any{"application_id", id, "metadata", `{"n":1}`}, []any{"request", `{"application_id":"` + id + `","metadata":{"n":1}}`})
		case 8:
			all = append(all, []any{"request", `{"application_id":"` + id + `","lane":"bulk"}`})
		default:
			all = append(all, []any{"application_id", id})
		}
	}
	return all, bad
}

// addAll adds the entries slowly and returns the stream IDs of the invalid ones and the
// number of distinct requests.
func addAll(t *testing.T, rdb *redis.Client, rows int) (bad map[string]bool, good int) {
	t.Helper()
	const page = 100
	bad = map[string]bool{}
	for from := 0; from < rows; from += page {
		all, wrong := entries(from, from+page)
		cmds, err := rdb.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for _, fields := range all {
				pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: intakeStream, Values: fields})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range wrong {
			bad[cmds[i].(*redis.StringCmd).Val()] = true
		}
		good += page - len(wrong)
		<-time.After(max(10*time.Millisecond, 4*time.Second*page/time.Duration(rows))) // so that workers are killed in between
	}
	return bad, good
}

// Workers are killed repeatedly while entries arrive. Each valid request gets one link,
// and each invalid entry is in the rejects once.
func TestIntake_LosesNothingWhenWorkersAreKilled(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"latency":"5ms"}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	start(t, settings, "worker", "--simulate") // this one is not killed

	killing, stop := context.WithCancel(t.Context())
	killed := make(chan int)
	go func() {
		kills := 0
		for killing.Err() == nil {
			w := start(t, settings, "worker", "--simulate")
			select {
			case <-killing.Done():
			case <-time.After(time.Duration(150+100*(kills%4)) * time.Millisecond):
			}
			w.kill()
			kills++
		}
		killed <- kills
	}()
	bad, good := addAll(t, rdb, intakeRows)
	stop()
	t.Logf("%d workers were killed while %d requests and %d invalid entries were added", <-killed, good, len(bad))
	fixture.Eventually(t, "the stream is empty", func() bool {
		n, err := rdb.XLen(t.Context(), intakeStream).Result()
		return err == nil && n == 0
	})

	rejects, err := rdb.XRange(t.Context(), rejectStream, "-", "+").Result()
	if err != nil || len(rejects) != len(bad) {
		t.Errorf("%d rejects, want %d (%v)", len(rejects), len(bad), err)
	}
	for _, r := range rejects {
		entry := fmt.Sprint(r.Values["entry"])
		if !bad[entry] || r.Values["reason"] != "invalid" {
			t.Errorf("rejected: %v", r.Values)
		}
		delete(bad, entry)
	}
	expectOneLinkEach(t, rdb, good)
	if got := sim.State(); got.Links < good {
		t.Errorf("%d links were made for %d requests", got.Links, good)
	}
}

// expectOneLinkEach waits until n requests have ended and checks that each has one link.
func expectOneLinkEach(t *testing.T, rdb *redis.Client, good int) {
	t.Helper()
	created, last := map[string]int{}, "-"
	fixture.Eventually(t, "each has its link", func() bool {
		events, err := rdb.XRangeN(t.Context(), "{kyclink:default}:results", last, "+", 1000).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			event, err := tasks.ParseEvent(e.Values)
			if err != nil || event.Type != tasks.EventCreated {
				t.Errorf("%v: %+v", err, event)
			}
			created[event.Data.ApplicationID]++
			last = "(" + e.ID
		}
		return len(created) >= good && len(events) == 0
	})
	if len(created) != good {
		t.Errorf("%d have a link, want %d", len(created), good)
	}
	for id, n := range created {
		if n != 1 {
			t.Errorf("%s has %d ends", id, n)
		}
	}
}

// A worker that is stopped with SIGTERM accepts or releases all entries that it read.
func TestIntake_ReleasesItsEntriesOnStop(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_MAX_BACKLOG=1"}
	if code, _, stderr := kyclink(t, settings, "account", "pause"); code != 0 {
		t.Fatal(stderr)
	}
	w := start(t, settings, "worker", "--simulate")
	for i := range 3 {
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: intakeStream, Values: []any{"application_id", fmt.Sprint("S-", i)}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	fixture.Eventually(t, "one is accepted", func() bool {
		n, err := rdb.XLen(t.Context(), intakeStream).Result()
		return err == nil && n == 2
	})
	if code, _, stderr := kyclink(t, settings, "request", "--application-id", "S-9"); code != exitNotCreated {
		t.Errorf("a request to a full lane exits with %d: %s", code, stderr)
	}
	w.signal(syscall.SIGTERM)
	if code := w.exit(); code != 0 {
		t.Errorf("it exits with %d:\n%s", code, w.stderr.String())
	}
	if code, _, stderr := kyclink(t, settings, "account", "resume"); code != 0 {
		t.Fatal(stderr)
	}
	start(t, settings, "worker", "--simulate")
	expectOneLinkEach(t, rdb, 3)
}
