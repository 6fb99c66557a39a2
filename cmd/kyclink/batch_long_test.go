//go:build long

package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
)

// With a million waiting rows, batch status answers at once, a recount takes seconds, and
// a cancel that is killed and repeated takes a minute. No script blocks Redis for long.
func TestBatchCancel_TakesAMillionRows(t *testing.T) {
	const many = 1_000_000
	server := redistest.Start(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	rdb := server.Client(t)
	timed := func(what string, do func()) time.Duration {
		begun := time.Now()
		do()
		took := time.Since(begun)
		t.Logf("%s took %v", what, took)
		return took
	}
	expect := expecter(t, settings)
	timed("importing", func() { importBatch(t, rdb, "spring", many) })
	if err := rdb.ConfigSet(t.Context(), "slowlog-log-slower-than", "10000").Err(); err != nil {
		t.Fatal(err)
	}
	timed("status, its process included", func() {
		if b := statusOf(t, settings, "spring"); b.Counts[request.Waiting] != many {
			t.Errorf("%+v", b)
		}
	})
	stores := storage.Of(rdb, "default")
	if took := timed("status", func() {
		if _, ok, err := stores.Batches.Get(t.Context(), 1); err != nil || !ok {
			t.Error(err)
		}
	}); took > 50*time.Millisecond {
		t.Errorf("batch status took %v", took)
	}
	timed("check", func() { expect(0, "every count is exact", "", "batch", "check", "spring") })
	timed("cancelling the first half", func() {
		p := start(t, settings, "batch", "cancel", "spring", "--yes")
		fixture.Eventually(t, "half have ended", func() bool {
			n, _ := rdb.HGet(t.Context(), "{kyclink:default}:batch:1", "cancelled").Int() // absent is 0
			return n >= many/2
		})
		p.signal(syscall.SIGKILL)
		<-p.over
	})
	timed("cancelling the rest", func() { expect(0, "is cancelled", "", "batch", "cancel", "spring", "--yes") })
	timed("check", func() { expect(0, "1000000 cancelled; every count is exact", "", "batch", "check", "spring") })
	if n := rdb.XLen(t.Context(), "{kyclink:default}:results").Val(); n != many {
		t.Errorf("%d events", n)
	}
	slow, err := rdb.SlowLogGet(t.Context(), -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slow {
		t.Logf("slow: %v, %.60q", s.Duration, s.Args[0])
	}
}
