package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// traces returns the places in Redis that contain one of the IDs.
func traces(t testing.TB, rdb *redis.Client, ids ...string) (found []string) {
	t.Helper()
	ctx := context.Background()
	scan := rdb.Scan(ctx, 0, "*", 1000).Iterator()
	for scan.Next(ctx) {
		key := scan.Val()
		var value any
		switch rdb.Type(ctx, key).Val() {
		case "string":
			value = rdb.Get(ctx, key).Val()
		case "hash":
			value = rdb.HGetAll(ctx, key).Val()
		case "list":
			value = rdb.LRange(ctx, key, 0, -1).Val()
		case "set":
			value = rdb.SMembers(ctx, key).Val()
		case "zset":
			value = rdb.ZRange(ctx, key, 0, -1).Val()
		case "stream":
			value = rdb.XRange(ctx, key, "-", "+").Val()
		}
		text := key + " " + fmt.Sprint(value)
		for _, id := range ids {
			if at := strings.Index(text, id); at >= 0 {
				found = append(found, fmt.Sprintf("%s in %s: …%s…", id, key, text[max(0, at-60):min(len(text), at+60)]))
			}
		}
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// batchWith returns a batch and fails if it does not have the given number of rows.
func batchWith(t testing.TB, stores *storage.Stores, name string, rows int) batch.Batch {
	t.Helper()
	all, err := stores.Batches.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.Batch == name && b.Rows == rows {
			return b
		}
	}
	t.Fatalf("batch %s has not %d rows: %+v", name, rows, all)
	return batch.Batch{}
}

// People whose requests are in different states are erased from every key.
func TestForget_ErasesAPersonEverywhere(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"P-0003","fault":"code_5002"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	client := tasks.NewClient(rdb, tasks.Config{})
	stores := storage.Of(rdb, "default")
	expect := expecter(t, settings)
	importPeople(t, client, "spring", 1, 230)
	importPeople(t, client, "autumn", 1, 250) // 230 joined
	expect(0, "230 requests would be erased", "", "forget", "--batch", "spring", "--dry-run")
	expect(0, `{"requests":2}`, "", "forget", "P-0001", "P-0002", "P-9999", "--dry-run", "--json")
	expect(64, "", "an argument is empty", "forget", "P-0001", "")
	// P-0002 is promoted: it has a task in both queues.
	if _, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "P-0002"}); err != nil {
		t.Fatal(err)
	}
	// Rejects of P-0002 and P-0240, the former as JSON within JSON, and audit entries of
	// P-0004 and of a batch.
	for _, entry := range [][]any{
		{"{kyclink:default}:rejects", "original", `{"request":"{\"application_id\":\"P-0002\"}"}`}, {"{kyclink:default}:rejects", "original", `{"application_id":"P-0240"}`},
		{"{kyclink:default}:audit", "target", "P-0004"}, {"{kyclink:default}:audit", "target", "spring"},
	} {
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: entry[0].(string), Values: entry[1:]}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	expect(0, "erased: 2 requests with 2 generations, 4 rows, 2 events, 1 task, 0 quarantined, 2 from the rejects and the audit trail", "", "forget", "--yes", "P-0002", "P-0004")
	if left := traces(t, rdb, "P-0002", "P-0004"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	worker := start(t, settings, "worker", "--simulate")
	ended := func() bool {
		b := batchWith(t, stores, "spring", 230)
		return b.Counts[request.Created] == 227 && b.Counts[request.Failed] == 1
	}
	fixture.Eventually(t, "all have ended", ended)
	fixture.Eventually(t, "no task is left", func() bool { return len(rdb.Keys(t.Context(), "asynq:{*}:t:*").Val()) == 0 })
	expect(0, `"requests":2,"generations":2,"rows":4,"events":2,"tasks":0`, "", "forget", "--yes", "P-0003", "P-0005", "--json")
	worker.signal(syscall.SIGTERM)
	worker.exit()
	if left := traces(t, rdb, "P-0003", "P-0005"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	expect(0, "erased: 0 requests", "P-0003: no request has this application ID", "forget", "--yes", "P-0003")
	batchWith(t, stores, "autumn", 250)

	// An erased ID can be requested again.
	link, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "P-0005"})
	if err != nil || link.Status != tasks.Queued || link.Batch != "" {
		t.Errorf("%+v, %v", link, err)
	}
	script := sim.Script()
	script.Rules = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "it has its link", func() bool {
		link, err := client.Get(t.Context(), "P-0005")
		return err == nil && link.Status == tasks.Created && link.Attempts == 1
	})
	expect(64, "", "nothing is selected", "forget")
	expect(64, "", "exclude each other", "forget", "A", "--batch", "spring")
	expect(1, "", "there is no batch", "forget", "--yes", "--batch", "winter")
}

// A bundle that names an erased request is replaced by one of its other requests.
func TestForget_ErasesARequestOfABundle(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, "{}")
	expect := expecter(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL})
	importPeople(t, tasks.NewClient(rdb, tasks.Config{}), "spring", 1, 4)
	queue := asynq.NewClientFromRedisClient(rdb)
	for _, ids := range [][]string{{"P-0001", "P-0002", "P-0003"}, {"P-0002"}, {"P-0004"}} {
		var turns []request.Ref
		for _, id := range ids {
			turns = append(turns, request.Ref{ApplicationID: id, Generation: 1, Run: 1, Turn: 1})
		}
		if err := linktask.EnqueueBundle(t.Context(), queue, "default", turns); err != nil {
			t.Fatal(err)
		}
	}
	expect(0, "2 tasks", "", "forget", "--yes", "P-0002")
	if left := traces(t, rdb, "P-0002"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	bundles, err := asynqx.NewQueue(rdb, "default", request.Bundles).Messages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, bundle := range bundles {
		turns, _ := linktask.Bundled(bundle.Payload())
		left = append(left, fmt.Sprint(turns))
	}
	slices.Sort(left)
	if got := strings.Join(left, " "); got != "[P-0001:1:1:1 P-0003:1:1:1] [P-0004:1:1:1]" {
		t.Errorf("the bundles have the turns %s", got)
	}
}

// The erasure of a batch is killed and repeated. Joined rows, of this batch and of
// others, are kept.
func TestForgetBatch_ContinuesAfterAKill(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, "{}")
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=300/s"}
	client := tasks.NewClient(rdb, tasks.Config{})
	stores := storage.Of(rdb, "default")
	const n = forgotRows
	importPeople(t, client, "winter", 1, 20)
	importPeople(t, client, "spring", 1, n)
	importPeople(t, client, "autumn", n-9, 20) // 10 of spring's, and 10 others
	w := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "some links are created", func() bool { return batchWith(t, stores, "spring", n).Counts[request.Created] > 200 })
	w.kill()

	first := start(t, settings, "forget", "--batch", "spring", "--yes")
	fixture.Eventually(t, "some are erased", func() bool { return batchWith(t, stores, "spring", n).Counts[batch.Erased] > 0 })
	first.kill()
	expect := expecter(t, settings)
	b := batchWith(t, stores, "spring", n)
	if b.Counts[batch.Erased] == n-20 {
		t.Log("it was not killed in the middle")
	}
	// Another worker recovers and ends the calls of the dead worker.
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "nothing is being called", func() bool { return batchWith(t, stores, "spring", n).Counts[request.Calling] == 0 })
	fixture.Eventually(t, "all is erased", func() bool {
		kyclink(t, settings, "forget", "--batch", "spring", "--yes")
		return batchWith(t, stores, "spring", n).Counts[batch.Erased] == n-20
	})
	expect(0, "erased: 0 requests", "", "forget", "--batch", "spring", "--yes")
	var gone []string
	for i := 21; i <= n; i += 7 {
		gone = append(gone, fmt.Sprintf("P-%04d", i))
	}
	// The list of the killed worker names its requests until the worker counts as dead.
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Errorf("left: %.2000q", left)
		}
	}()
	fixture.Eventually(t, "no key names them", func() bool { left = traces(t, rdb, gone...); return len(left) == 0 })
	b = batchWith(t, stores, "spring", n)
	if b.Joined != 20 || b.Counts[batch.Erased] != n-20 {
		t.Errorf("%+v", b)
	}
	for _, kept := range []string{"P-0001", "P-0020", fmt.Sprintf("P-%04d", n+1)} {
		if _, err := client.Get(t.Context(), kept); err != nil {
			t.Errorf("%s: %v", kept, err)
		}
	}
}

// A request with a call in flight is cancelled, and erased when the call has ended.
func TestForget_WaitsForACall(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"hang"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_TIMEOUT=1m"}
	client := tasks.NewClient(rdb, tasks.Config{})
	if _, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "P-0001"}); err != nil {
		t.Fatal(err)
	}
	start(t, settings, "worker", "--simulate")
	status := func() tasks.Status {
		link, err := client.Get(t.Context(), "P-0001")
		if err != nil {
			return ""
		}
		return link.Status
	}
	fixture.Eventually(t, "it is being called", func() bool { return status() == tasks.Status(request.Calling) })
	code, _, stderr := kyclink(t, settings, "forget", "--yes", "P-0001")
	if code != 1 || !strings.Contains(stderr, "1 not erased: being called") || !strings.Contains(stderr, "run the same command again in") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	sim.Release()
	fixture.Eventually(t, "its call has ended", func() bool { return status().Ended() })
	fixture.Eventually(t, "it is erased", func() bool {
		code, _, _ := kyclink(t, settings, "forget", "--yes", "P-0001")
		return code == 0 && status() == ""
	})
	fixture.Eventually(t, "no key names it", func() bool { return len(traces(t, rdb, "P-0001")) == 0 })
}

// Workers erase ended requests after the retention.
func TestRetention_ErasesEndedRequests(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, "{}")
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_RETENTION=2s"}
	client := tasks.NewClient(rdb, tasks.Config{})
	stores := storage.Of(rdb, "default")
	importPeople(t, client, "spring", 1, 300)
	start(t, settings, "worker", "--simulate")
	begun := time.Now()
	fixture.Eventually(t, "all are erased", func() bool { return batchWith(t, stores, "spring", 300).Counts[batch.Erased] == 300 })
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("they are erased after %v", took)
	}
	rows := cells(t, expecter(t, settings)(0, "", "300 erased", "batch", "export", "spring"))
	if len(rows) != 300 || rows[299]["status"] != "erased" || rows[299]["application_id"] != "" {
		t.Errorf("%d rows, the last is %v", len(rows), rows[len(rows)-1])
	}
}

// Each expired link gets one new generation.
func TestBatchRefresh_GivesExpiredLinksOneNewGeneration(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, "{}")
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	stores := storage.Of(rdb, "default")
	client := tasks.NewClient(rdb, tasks.Config{})
	past := time.Now().Add(-time.Hour).Truncate(time.Millisecond).UTC()
	var old []request.Record
	for i := range 1500 {
		expires := past
		if i%3 == 0 {
			expires = past.Add(2 * time.Hour)
		}
		old = append(old, request.Record{
			ApplicationID: fmt.Sprintf("P-%04d", i+1), State: request.Created, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1, AcceptedAt: past, ChangedAt: past,
			Content: request.Content{Row: i + 1, NotAfter: past, ExpiryMinutes: 60, Metadata: fmt.Appendf(nil, `{"n":%d}`, i+1)},
			Outcome: request.Outcome{Run: 1, Status: request.Created, LinkID: "l", URL: "https://simulator.invalid/l", ExpiresAt: expires, EndedAt: past},
		})
	}
	for at := 0; at < len(old); at += 500 {
		if err := stores.Requests.Restore(t.Context(), "spring", old[at:at+500]); err != nil {
			t.Fatal(err)
		}
	}
	importPeople(t, client, "other", 1, 1500) // they join
	rdb.HSet(t.Context(), "{kyclink:default}:order:1", rdb.HGetAll(t.Context(), "{kyclink:default}:order:2").Val())
	expect := expecter(t, settings)
	expect(0, "1,000 would be refreshed", "", "batch", "refresh", "spring", "--dry-run")
	expect(0, "0 refreshed", "", "batch", "refresh", "other")
	expect(64, "", "is in the past", "batch", "refresh", "spring", "--not-after", "2020-01-01T00:00:00Z")
	expect(0, `batch "spring": 1,000 refreshed`, "", "batch", "refresh", "spring")
	expect(0, `batch "spring": 0 refreshed`, "", "batch", "refresh", "spring")
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "all have a link", func() bool { return batchWith(t, stores, "spring", 1500).Counts[request.Created] == 1500 })
	expect(0, "", "kyclink: 0 rows", "batch", "export", "spring", "--expired")
	for _, row := range cells(t, expect(0, "", "1,500 created", "batch", "export", "spring")) {
		if row["generation"] == "1" == (row["url"] != "https://simulator.invalid/l") || row["not_after"] != "" && row["generation"] == "2" {
			t.Fatalf("%v", row)
		}
	}
}
