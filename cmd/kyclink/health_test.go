package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// With too few open files, a busy process would hang.
func TestWorker_RefusesTooFewOpenFiles(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	in := write(t, filepath.Join(t.TempDir(), "in.csv"), people(1))
	for _, command := range []string{"worker --simulate", "run " + in + " -o " + in + ".out.csv --simulate", "serve", "request --application-id A-1"} {
		p := startBinary(t, "/bin/sh", []string{"KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_LISTEN=127.0.0.1:0"}, "-c", "ulimit -n 24; exec "+binary+" "+command)
		if code := p.exit(); code != 78 || !strings.Contains(p.stderr.String(), "ulimit -n is 24") {
			t.Errorf("%s: exit code %d:\n%s", command, code, p.stderr.String())
		}
	}
}

// A Redis that can be read but refuses writes makes every health check fail.
func TestHealth_FailsWhenRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	w := start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL}, "worker", "--simulate")
	s := startServe(t, server.URL)
	places := map[string]string{"the worker": w.opsURL() + "/readyz", "serve": s.opsURL() + "/readyz", "the API": "http://" + s.addr + "/healthz"}
	all := func(status int, text string) func() bool {
		return func() bool {
			for _, url := range places {
				if got, body := look(t, url); got != status || !strings.Contains(body, text) && !strings.Contains(url, "healthz") {
					return false
				}
			}
			return true
		}
	}
	do := func(args ...any) {
		t.Helper()
		if err := rdb.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for code, step := range map[string]struct{ breaks, repairs []any }{
		"OOM":      {[]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		"READONLY": {[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		"NOPERM":   {[]any{"ACL", "SETUSER", "default", "-evalsha", "-eval"}, []any{"ACL", "SETUSER", "default", "+@all"}},
		"NOREPLICAS": {
			[]any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"},
		},
	} {
		fixture.Eventually(t, "all are healthy before "+code, all(http.StatusOK, "ok"))
		do(step.breaks...)
		fixture.Eventually(t, "all report "+code, all(http.StatusServiceUnavailable, "writes are refused by Redis ("+code+")"))
		for _, url := range []string{w.opsURL(), s.opsURL()} {
			scrape(t, url).expect(t, 0, "kyclink_redis_up")
		}
		do(step.repairs...)
	}
	fixture.Eventually(t, "all are healthy again", all(http.StatusOK, "ok"))
	for _, url := range []string{w.opsURL(), s.opsURL()} {
		scrapeAccount(t, url)
	}
}

func TestHealth_ReportsAnEmptiedRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	w := start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=7/s", "FACEKI_BURST=9"}, "worker", "--simulate")
	fixture.Eventually(t, "it works", func() bool { return strings.Contains(w.stderr.String(), "worker started") })
	s := startServe(t, server.URL)
	fixture.Eventually(t, "serve is ready", func() bool { status, _ := look(t, s.opsURL()+"/readyz"); return status == http.StatusOK })
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, "both report it", func() bool {
		return strings.Contains(w.stderr.String(), "has lost all data") && strings.Contains(s.stderr.String(), "has lost all data")
	})
	client := enqueue(t, rdb, 2)
	fixture.Eventually(t, "the worker continues", func() bool { return allCreated(links(t, client, 2)) })
	_, stdout, _ := kyclink(t, []string{"KYCLINK_REDIS_URL=" + server.URL}, "account", "status")
	if !strings.Contains(stdout, "simulated") || !strings.Contains(stdout, "7/s, burst 9") {
		t.Errorf("the worker joined the account again without its kind and its rate:\n%s", stdout)
	}
}

func TestHealth_ReportsAQueuePausedFromOutside(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	w := start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL}, "worker", "--simulate")
	url := w.opsURL() + "/readyz"
	client := enqueue(t, rdb, 1)
	fixture.Eventually(t, "it works", func() bool { return allCreated(links(t, client, 1)) })
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	if err := inspector.PauseQueue("kyclink:default:interactive"); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, "it is not ready", func() bool {
		status, text := look(t, url)
		return status == http.StatusServiceUnavailable && strings.Contains(text, "kyclink:default:interactive is paused")
	})
	fixture.Eventually(t, "the log says how to repair it", func() bool {
		return strings.Contains(w.stderr.String(), "asynq:{kyclink:default:interactive}:paused")
	})
	if err := inspector.UnpauseQueue("kyclink:default:interactive"); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, "it is ready again", func() bool { status, _ := look(t, url); return status == http.StatusOK })
}
