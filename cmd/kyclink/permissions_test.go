package main

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// permitted is a Redis whose users have exactly the rules of docs/operations.md.
type permitted struct {
	*redistest.Server
	admin *redis.Client
	url   func(role string) string
	tls   []string // settings for encrypted
}

// rules returns the rules of docs/operations.md for an account: each is a command of Redis.
func rules(t *testing.T, account string) (all [][]any) {
	t.Helper()
	text := read(t, "../../docs/operations.md")
	for _, line := range regexp.MustCompile(`(?m)^ACL SETUSER kyclink-.*$`).FindAllString(text, -1) {
		var command []any
		for _, word := range strings.Fields(strings.ReplaceAll(line, "kyclink:default", "kyclink:"+account)) {
			command = append(command, word)
		}
		all = append(all, command)
	}
	if len(all) != 4 {
		t.Fatalf("docs/operations.md has rules for %d users, want 4", len(all))
	}
	return all
}

// permit starts a Redis that requires TLS with a client certificate of everybody but admin.
func permit(t *testing.T, account string) permitted {
	t.Helper()
	c := redistest.NewCertificates(t)
	server, encrypted := redistest.StartTLS(t, c)
	p := permitted{
		Server: server, admin: server.Client(t),
		url: func(role string) string { return "rediss://kyclink-" + role + ":PASSWORD@" + encrypted + "/0" },
		tls: []string{"KYCLINK_REDIS_CA=" + c.CA, "KYCLINK_REDIS_CERT=" + c.ClientCert, "KYCLINK_REDIS_KEY=" + c.ClientKey},
	}
	for _, rule := range rules(t, account) {
		fixture.Must(t, p.admin.Do(t.Context(), rule...).Err())
	}
	return p
}

// as returns the settings of a process that is a user.
func (p permitted) as(role string, more ...string) []string {
	settings := append([]string{"KYCLINK_REDIS_URL=" + p.url(role)}, p.tls...)
	return append(append(settings, "KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET="+newSecret), more...)
}

// expectNoRefusal checks that no process was refused anything.
func (p permitted) expectNoRefusal(t *testing.T) {
	t.Helper()
	refused, err := p.admin.ACLLog(context.WithoutCancel(t.Context()), 10).Result()
	fixture.Must(t, err)
	for _, entry := range refused {
		t.Errorf("%s was refused: %s %s", entry.Username, entry.Reason, entry.Object)
	}
}

// client returns a client that is a user.
func (p permitted) client(t *testing.T, role string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, Username: "kyclink-" + role, Password: "PASSWORD", ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// All kinds of processes together do everything with the documented permissions, over TLS
// with a private CA and client certificates.
func TestPermissions_SufficeForTheWholeJob(t *testing.T) {
	t.Parallel()
	p := permit(t, "default")
	_, faceki := upstream(t, `{}`)
	received := newReceiver(t, 0, 0, newSecret)
	worker := start(t, p.as("worker", faceki), "worker", "--simulate")
	serve := startServe(t, p.url("serve"), p.as("serve")[1:]...)
	ready := func() bool { status, _ := look(t, worker.opsURL()+"/readyz"); return status == http.StatusOK }
	fixture.Eventually(t, "the worker is ready", ready)
	scrapeAccount(t, worker.opsURL())

	produce, operate := expecter(t, p.as("producer")), expecter(t, p.as("serve"))
	produce(0, "https://", "", "request", "--application-id", "A-1", "--callback-url", received.url(), "--wait=4m")
	produce(0, "https://", "", "request", "--application-id", "A-1", "--generation", "2", "--not-after", "2099-01-01T00:00:00Z", "--wait=4m")
	if t.Failed() {
		return
	}
	people := peopleFile(t, 150)
	for range 2 {
		produce(0, "", "", "import", people, "--batch", "spring")
	}
	produce(0, "", "150 joined", "import", people, "--batch", "summer")
	for name, entry := range map[string]string{"application_id": "I-1", "unknown": "I-2"} {
		fixture.Must(t, p.client(t, "producer").XAdd(t.Context(), &redis.XAddArgs{Stream: "{kyclink:default}:requests", Values: []any{name, entry}}).Err())
	}
	client := tasks.NewClient(p.client(t, "producer"), tasks.Config{})
	fixture.Eventually(t, "the request of the intake stream is created", func() bool {
		link, err := client.Get(t.Context(), "I-1")
		return err == nil && link.Status == tasks.Created
	})
	operate(0, "done", "", "batch", "watch", "spring")
	operate(0, "https://", "", "batch", "export", "spring", "-o", "-")
	fixture.Eventually(t, "the callback arrives", func() bool { return received.events() == 1 })

	consume(t, p)
	operators(t, operate)
	visit(t, serve)
	worker.signal(syscall.SIGTERM)
	serve.signal(syscall.SIGTERM)
	if code := worker.exit(); code != 0 {
		t.Errorf("the worker ends with %d", code)
	}
	serve.exit()
	p.expectNoRefusal(t)
}

// In a cluster, the users need the two permissions more that docs/operations.md names.
func TestPermissions_SufficeInACluster(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--cluster-enabled", "yes")
	admin := node.Client(t)
	fixture.Must(t, admin.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	fixture.Eventually(t, "the cluster is up", func() bool {
		info, err := admin.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	more := regexp.MustCompile("In a cluster, add `([^`]+)`").FindStringSubmatch(read(t, "../../docs/operations.md"))
	for _, rule := range rules(t, "default") {
		for _, permission := range strings.Fields(more[1]) {
			rule = append(rule, permission)
		}
		fixture.Must(t, admin.Do(t.Context(), rule...).Err())
	}
	as := func(role string) []string {
		return []string{"KYCLINK_REDIS_MODE=cluster", "KYCLINK_REDIS_URL=redis://kyclink-" + role + ":PASSWORD@" + node.Addr}
	}
	start(t, as("worker"), "worker", "--simulate")
	expecter(t, as("producer"))(0, "https://", "", "request", "--application-id", "A-1", "--wait=4m")
	expecter(t, as("serve"))(0, "", "", "account", "status")
	expecter(t, as("consumer"))(0, "link.created", "", "results", "read", "--group", "a")
	refused, err := admin.ACLLog(t.Context(), 10).Result()
	fixture.Must(t, err)
	for _, entry := range refused {
		t.Errorf("%s was refused: %s %s", entry.Username, entry.Reason, entry.Object)
	}
}

// consume reads the results stream with the command, and with the Go client.
func consume(t *testing.T, p permitted) {
	t.Helper()
	expecter(t, p.as("consumer"))(0, "link.created", "", "results", "read", "--group", "a", "--consumer", "c")
	var events atomic.Int64 // pages are handled concurrently
	results := tasks.NewResults(p.client(t, "consumer"), tasks.ResultsConfig{Group: "b", OnError: func(err error) { t.Error(err) }})
	fixture.Must(t, results.Drain(t.Context(), 100, func(_ context.Context, page []tasks.Event) error {
		events.Add(int64(len(page)))
		return nil
	}))
	if events.Load() < 150 {
		t.Errorf("the consumer got %d events, want those of all requests", events.Load())
	}
}

// operators runs commands of operators.
func operators(t *testing.T, operate func(code int, stdout, stderr string, args ...string) string) {
	t.Helper()
	for _, command := range []string{
		"status", "show A-1", "account status", "account pause", "account resume", "account rate 300/s", "account rate --reset",
		"batch list", "batch status spring", "batch check spring", "batch pause spring", "batch resume spring", "batch retry spring",
		"batch cancel summer --yes", "failed list", "failed retry --all", "held list", "held retry --all", "callbacks list",
		"callbacks retry --all", "results groups", "results lag --group a", "results replay --batch spring", "keys list", "actions list",
		"audit", "forget P-000001 --yes", "forget --batch spring --yes",
	} {
		operate(0, "", "", strings.Fields(command)...)
	}
}

// visit signs in to the console, opens its pages, and uses the API.
func visit(t *testing.T, s serving) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	fixture.Must(t, err)
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	base := "http://" + s.addr
	form := url.Values{"key": {s.key}}.Encode()
	status, page := s.ask(browser, http.MethodPost, base+"/sign-in", form, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if status != http.StatusOK {
		t.Errorf("sign-in: %d %s", status, page)
	}
	for _, path := range []string{
		"/", "/requests", "/requests?prefix=A", "/request?id=A-1", "/batches", "/failed", "/failed/groups", "/held", "/callbacks", "/actions", "/account", "/keys", "/audit",
		"/v1/links/A-1", "/v1/links", "/v1/account", "/v1/batches", "/v1/status",
	} {
		if status, page := s.ask(browser, http.MethodGet, base+path, ""); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, page)
		}
	}
	if status, page := s.ask(browser, http.MethodPost, base+"/v1/links", `{"application_id":"H-1"}`, "Content-Type", "application/json"); status != http.StatusCreated && status != http.StatusAccepted {
		t.Errorf("POST /v1/links: %d %s", status, page)
	}
}

// No user can do what its processes do not do, nor touch another account.
func TestPermissions_RefuseTheRest(t *testing.T) {
	t.Parallel()
	p := permit(t, "default")
	for _, key := range []string{"api-keys", "account", "session:x", "token:x", "workers", "results"} {
		fixture.Must(t, p.admin.Set(t.Context(), "{kyclink:default}:"+key, "x", 0).Err())
	}
	foreign := []string{
		"GET {kyclink:other}/A-1", "SET {kyclink:other}/A-1 x", "GET {kyclink:default-2}/A-1", "HGETALL {kyclink:other}:account", "XADD {kyclink:other}:results * a b",
		"LRANGE asynq:{kyclink:other:bulk}:pending 0 -1", "DEL asynq:{kyclink:default-2:bulk}:pending", "RENAME {kyclink:default}/A-1 {kyclink:other}/A-1",
		"EVAL return(redis.call('GET','{kyclink:other}/A-1')) 0", "PUBLISH asynq:cancel x", "SUBSCRIBE other",
		"FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "ACL LIST", "ACL SETUSER kyclink-worker +@all", "SHUTDOWN", "MONITOR", "SCRIPT FLUSH",
		"CLIENT KILL ID 1", "REPLICAOF NO ONE", "SELECT 1", "MODULE LIST", "FUNCTION LIST", "SORT {kyclink:default}:results", "SWAPDB 0 1", "MOVE {kyclink:default}:account 1",
	}
	for role, own := range map[string][]string{
		"worker": {"GET other", "HSET asynq:schedulers a b"},
		"serve":  {"GET other", "ZADD asynq:servers 1 a", "GET asynq:workers", "SUBSCRIBE asynq:cancel", "DBSIZE"},
		"producer": {
			"HGETALL {kyclink:default}:api-keys", "HSET {kyclink:default}:api-keys a b", "GET {kyclink:default}:session:x", "GET {kyclink:default}:token:x",
			"HSET {kyclink:default}:gate state open", "DEL {kyclink:default}/A-1", "XREADGROUP GROUP g c STREAMS {kyclink:default}:results >", "SCAN 0",
			"LPUSH asynq:{kyclink:default:callback}:pending x", "EVAL return(redis.call('HGETALL','{kyclink:default}:api-keys')) 0",
		},
		"consumer": {
			"GET {kyclink:default}/A-1", "SET {kyclink:default}/A-1 x", "XADD {kyclink:default}:requests * application_id A-1", "XADD {kyclink:default}:results * a b",
			"XDEL {kyclink:default}:results 1-1", "XTRIM {kyclink:default}:results MAXLEN 0", "DEL {kyclink:default}:results", "XGROUP DESTROY {kyclink:default}:results g",
			"HGETALL {kyclink:default}:account", "SCAN 0", "EVAL return(redis.call('XADD','{kyclink:default}:results','*','a','b')) 0",
		},
	} {
		rdb := p.client(t, role)
		for _, command := range append(foreign, own...) {
			var args []any
			for _, word := range strings.Fields(command) {
				args = append(args, word)
			}
			err := rdb.Do(t.Context(), args...).Err()
			if err == nil || !redis.IsPermissionError(err) && !strings.Contains(err.Error(), "The user executing the script can't") {
				t.Errorf("%s: %s is not refused: %v", role, command, err)
			}
		}
	}
}

// A refusal says who was refused what, and what to do.
func TestPermissions_RefusalsAreExplained(t *testing.T) {
	t.Parallel()
	p := permit(t, "default")
	other := func(role string) []string { return p.as(role, "KYCLINK_ACCOUNT=other") }
	what := "docs/operations.md (Redis permissions)"
	for name, tt := range map[string]struct {
		settings []string
		args     string
		want     []string
	}{
		"a command":       {p.as("consumer"), "request --application-id A-1", []string{"NOPERM ", "user kyclink-consumer, command EVAL", "key {kyclink:default}", what}},
		"a key":           {other("producer"), "request --application-id A-1", []string{"NOPERM ", "user kyclink-producer, command EVAL", "key {kyclink:other}", what}},
		"in a script":     {p.as("producer"), "account pause", []string{"NOPERM ", "user kyclink-producer, command EVAL", "key {kyclink:default}", what}},
		"results":         {other("consumer"), "results read --group g", []string{"NOPERM ", "user kyclink-consumer, command XGROUP", "key {kyclink:other}:results", what}},
		"more results":    {other("consumer"), "results follow --group g", []string{"NOPERM ", "user kyclink-consumer, command XGROUP", what}},
		"another account": {other("worker"), "worker --simulate", []string{"user kyclink-worker, command EVAL", "key {kyclink:other}", what}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := kyclink(t, tt.settings, strings.Fields(tt.args)...)
			for _, want := range tt.want {
				if code != exitError || !strings.Contains(stderr, want) || strings.Contains(stderr, "PASSWORD") {
					t.Errorf("exit code %d, want 1 and: %s\n%s", code, want, stderr)
				}
			}
		})
	}
	serve := start(t, append(other("serve"), "KYCLINK_LISTEN=127.0.0.1:0"), "serve")
	fixture.Eventually(t, "serve says that it may not write", func() bool {
		return strings.Contains(serve.stderr.String(), "user kyclink-serve, command EVAL")
	})
}
