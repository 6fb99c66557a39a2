package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/stall"
	"github.com/kyclink/kyclink/tasks"
)

// opsURL returns the base URL of a process's health and metrics.
func (p *process) opsURL() string {
	p.t.Helper()
	found := regexp.MustCompile(`"ops_address":"([^"]+)"`)
	var m []string
	fixture.Eventually(p.t, "it logs the address of its metrics", func() bool {
		m = found.FindStringSubmatch(p.stderr.String())
		return m != nil
	})
	return "http://" + m[1]
}

// look returns the HTTP status, or 0 if there was no answer, and the body.
func look(t testing.TB, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(body)
}

// scraped is the text of one scrape.
type scraped string

func scrape(t testing.TB, url string) scraped {
	t.Helper()
	status, body := look(t, url+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return scraped(body)
}

// scrapeAccount scrapes until the metrics of the account are there. A read of the account
// that exceeds its time limit, as it may on a busy machine, leaves them out.
func scrapeAccount(t testing.TB, url string) scraped {
	t.Helper()
	var s scraped
	fixture.Eventually(t, "the account can be read", func() bool {
		s = scrape(t, url)
		return s.sum("kyclink_redis_up") == 1
	})
	return s
}

// sum adds up all series of a metric that have these labels. It returns -1 if there is
// none.
func (s scraped) sum(name string, labels ...string) int {
	total, found := 0.0, false
lines:
	for line := range strings.Lines(string(s)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue lines
			}
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			panic(line)
		}
		total, found = total+n, true
	}
	if !found {
		return -1
	}
	return int(total)
}

func (s scraped) expect(t testing.TB, want int, name string, labels ...string) {
	t.Helper()
	if got := s.sum(name, labels...); got != want {
		t.Errorf("%s%v is %d, want %d", name, labels, got, want)
	}
}

// The metrics agree with the ledger, also for calls that were in flight in a killed
// process.
func TestMetrics_AgreeWithTheLedger(t *testing.T) {
	t.Parallel()
	const requests, dying = 60, 10
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"hang"}]}`)
	settings := append(hooked(setting, server, newSecret), "FACEKI_CLIENT_ID=shop-client", "FACEKI_CLIENT_SECRET=hush-hush-hush", "FACEKI_TIMEOUT=1m",
		fmt.Sprint("KYCLINK_CONCURRENCY=", dying))
	client := enqueue(t, rdb, requests)
	watch := stall.New()
	defer watch.Close()
	killed := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "a call is in flight in every slot", func() bool { return sim.State().InFlight >= dying })
	scrapeAccount(t, killed.opsURL()).expect(t, 0, "kyclink_possible_duplicates_total")
	killed.kill()
	script, err := simulator.ParseScript([]byte(`{"max_faults_per_id":1,"faults":[{"fault":"reset_after","probability":0.15},{"fault":"http_503","probability":0.05}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}

	w := start(t, settings, "worker", "--simulate")
	url := w.opsURL()
	all := func() []tasks.Link { return links(t, client, requests) }
	fixture.Eventually(t, "all have their links", func() bool { return allCreated(all()) })
	attempts, uncertain := 0, 0
	for _, l := range all() {
		attempts, uncertain = attempts+l.Attempts, uncertain+l.PossibleDuplicates
	}
	batch := statusOf(t, settings, "spring")
	if uncertain != batch.PossibleDuplicates || uncertain < dying {
		t.Errorf("%d possible duplicates, the batch shows %d; %d calls were in flight in the killed worker", uncertain, batch.PossibleDuplicates, dying)
	}
	if err := rdb.XGroupCreate(t.Context(), resultsKey, "crm", "0").Err(); err != nil {
		t.Fatal(err)
	}
	read, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "crm", Consumer: "one", Streams: []string{resultsKey, ">"}, Count: 20}).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range read[0].Messages[:5] {
		rdb.XAck(t.Context(), resultsKey, "crm", m.ID)
	}
	var s scraped
	fixture.Eventually(t, "the recovery has run, and the last attempt is counted", func() bool {
		s = scrapeAccount(t, url)
		return s.sum("kyclink_results_cap") == 10_000_000 && s.sum("kyclink_sweep_mended_total", `kind="orphaned"`) > 0 &&
			s.sum("kyclink_call_duration_seconds_count") >= attempts-dying && s.sum("kyclink_attempts_total") >= attempts-dying
	})
	s.expect(t, uncertain, "kyclink_possible_duplicates_total", `account="default"`)
	s.expect(t, uncertain-dying, "kyclink_attempts_total", `outcome="unknown"`)
	s.expect(t, attempts-dying, "kyclink_attempts_total")
	s.expect(t, attempts-dying, "kyclink_call_duration_seconds_count")
	// A grant that was received too late is not an attempt. A machine that stalls has many.
	stalled := watch.Longest() > 50*time.Millisecond
	if n := s.sum("kyclink_admission_wait_seconds_count", `lane="bulk"`); n < attempts-dying || n > 2*attempts && !stalled {
		t.Errorf("%d were admitted, %d attempts made", n, attempts-dying)
	}
	s.expect(t, requests, "kyclink_attempts_total", `lane="bulk"`, `outcome="created"`)
	s.expect(t, requests, "kyclink_requests_ended_total", `status="created"`)
	s.expect(t, batch.Counts["created"], "kyclink_requests_ended_total")
	s.expect(t, 0, "kyclink_backlog_requests")
	s.expect(t, 2000, "kyclink_rate_limit_calls_per_second")
	s.expect(t, 1, "kyclink_gate_state")
	s.expect(t, 1, "kyclink_workers")
	s.expect(t, 1, "kyclink_redis_up")
	s.expect(t, requests, "kyclink_results_entries")
	s.expect(t, requests-5, "kyclink_results_unacknowledged", `group="crm"`)
	secrets := []string{"hush-hush-hush", "shop-client", newSecret, "simulator.invalid"}
	for _, l := range all() {
		secrets = append(secrets, l.ApplicationID, l.LinkID, l.URL)
	}
	for _, secret := range secrets {
		if secret == "" || strings.Contains(string(s), secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
}

func TestMetrics_CountCallbacksAndIntake(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{"rules":[{"match":"P-00003","fault":"code_5002"}]}`)
	good := newReceiver(t, 0, 0, newSecret)
	enqueueHooked(t, rdb, good.url(), 0, 10)
	enqueueHooked(t, rdb, "https://10.0.0.1/hooks", 100, 5) // a private address
	url := start(t, hooked(setting, server, newSecret), "worker", "--simulate").opsURL()
	for _, fields := range [][]string{{"application_id", "I-1"}, {"application_id", "I-2"}, {"applicationid", "I-3"}} {
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "{kyclink:default}:requests", Values: fields}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var s scraped
	fixture.Eventually(t, "all is done, and counted", func() bool {
		s = scrapeAccount(t, url)
		return s.sum("kyclink_requests_ended_total") == 17 && s.sum("kyclink_attempts_total") == 17 && s.sum("kyclink_call_duration_seconds_count") == 17 &&
			s.sum("kyclink_callbacks_pending") == 0 && s.sum("kyclink_callback_attempts_total") == 15 && s.sum("kyclink_callback_duration_seconds_count") == 15 &&
			s.sum("kyclink_intake_entries_total") == 3
	})
	s.expect(t, 17, "kyclink_requests_ended_total")
	s.expect(t, 5, "kyclink_callbacks_given_up")
	s.expect(t, 0, "kyclink_callbacks_pending")
	if n := good.events(); n != 10 {
		t.Errorf("%d events received", n)
	}
	s.expect(t, 10, "kyclink_callback_attempts_total", `result="delivered"`)
	s.expect(t, 5, "kyclink_callback_attempts_total", `result="given_up"`, `reason="forbidden"`)
	s.expect(t, 15, "kyclink_callback_attempts_total")
	s.expect(t, 2, "kyclink_intake_entries_total", `result="accepted"`)
	s.expect(t, 1, "kyclink_intake_entries_total", `result="rejected"`)
	s.expect(t, 2, "kyclink_attempts_total", `lane="interactive"`, `outcome="created"`)
	s.expect(t, 1, "kyclink_requests_ended_total", `status="failed"`)
	s.expect(t, 1, "kyclink_requests_failed")
	for _, secret := range []string{good.address, "10.0.0.1", "known-to-the-receiver-only", "P-00003", "I-1", "I-3"} {
		if strings.Contains(string(s), secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
}

// The log and the metrics warn before events are trimmed.
func TestMetrics_ShowANearlyFullStream(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	pipe := rdb.Pipeline()
	for range 850 {
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: resultsKey, Values: []string{"id", "b0886c77-8e64-539d-9d71-734fc184653f"}})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_RESULTS_CAP=1000"}, "worker", "--simulate")
	fixture.Eventually(t, "the log has the warning", func() bool { return strings.Contains(w.stderr.String(), "results stream nearly full") })
	s := scrapeAccount(t, w.opsURL())
	s.expect(t, 850, "kyclink_results_entries")
	s.expect(t, 1000, "kyclink_results_cap")
	s.expect(t, 0, "kyclink_results_dropped_total")
}

// An address that is set must be free, which is checked first. A default address may be
// in use.
func TestOps_ExplainsThatItsAddressIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	nowhere := []string{"KYCLINK_REDIS_URL=redis://127.0.0.1:1/0", "KYCLINK_LISTEN=127.0.0.1:0", "KYCLINK_OPS_LISTEN=" + taken.Addr().String()}
	for _, args := range [][]string{{"worker", "--simulate"}, {"serve"}} {
		code, _, stderr := kyclink(t, nowhere, args...)
		if code != exitError || !strings.Contains(stderr, "KYCLINK_OPS_LISTEN: "+taken.Addr().String()+" is in use") || !strings.Contains(stderr, "to another address") {
			t.Errorf("%v: %d %s", args, code, stderr)
		}
	}
	byDefault, err := net.Listen("tcp", "127.0.0.1:9090") // if this fails, another process uses it already
	if err == nil {
		defer byDefault.Close()
	}
	server := newRedis(t)
	_, setting := upstream(t, `{}`)
	w := startBinary(t, "/usr/bin/env", []string{setting, "KYCLINK_REDIS_URL=" + server.URL}, "-u", "KYCLINK_OPS_LISTEN", binary, "worker", "--simulate")
	fixture.Eventually(t, "it warns", func() bool {
		return strings.Contains(w.stderr.String(), `"level":"warn"`) && strings.Contains(w.stderr.String(), "KYCLINK_OPS_LISTEN: 127.0.0.1:9090 is in use")
	})
	client := enqueue(t, server.Client(t), 3)
	fixture.Eventually(t, "it works", func() bool { return allCreated(links(t, client, 3)) })
	w.signal(syscall.SIGTERM)
	if code := w.exit(); code != 128+int(syscall.SIGTERM) && code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestHealth_FollowsAWorkersState(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	sim, setting := upstream(t, `{"rules":[{"match":"P-0001","fault":"hang"}]}`)
	w := start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_TIMEOUT=1m"}, "worker", "--simulate")
	url := w.opsURL()
	says := func(path string, status int, text string) func() bool {
		return func() bool {
			got, body := look(t, url+path)
			return got == status && body == text+"\n"
		}
	}
	fixture.Eventually(t, "it is ready", says("/readyz", http.StatusOK, "ok"))
	server.Stop()
	fixture.Eventually(t, "it is not ready without Redis", says("/readyz", http.StatusServiceUnavailable, "no answer from Redis"))
	s := scrape(t, url)
	if s.sum("kyclink_redis_up") != 0 || s.sum("kyclink_attempts_total") != 0 || s.sum("kyclink_workers") != -1 {
		t.Errorf("got the metrics\n%s", s)
	}
	if !says("/livez", http.StatusOK, "ok")() {
		t.Error("/livez fails without Redis")
	}
	server.Restart(t)
	fixture.Eventually(t, "it is ready again", says("/readyz", http.StatusOK, "ok"))
	scrapeAccount(t, url)
	enqueue(t, server.Client(t), 1)
	fixture.Eventually(t, "a call is in flight", func() bool { return sim.State().InFlight == 1 })
	w.signal(syscall.SIGTERM)
	fixture.Eventually(t, "it is stopping", says("/readyz", http.StatusServiceUnavailable, "the worker is stopping"))
	if !says("/livez", http.StatusOK, "ok")() {
		t.Error("/livez fails during the stop")
	}
	script := sim.Script()
	script.Rules = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
}

func TestMetrics_CountRequestsOfServe(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := startServe(t, server.URL)
	url := s.opsURL()
	base := "http://" + s.addr
	s.ask(http.DefaultClient, "POST", base+"/v1/links", `{"application_id":"A-1001"}`)
	s.ask(http.DefaultClient, "GET", base+"/v1/links/A-1001", "")
	s.ask(http.DefaultClient, "GET", base+"/v1/links/A-1002", "")
	s.ask(http.DefaultClient, "GET", base+"/nowhere/A-1003", "")
	s.ask(http.DefaultClient, "BREW", base+"/v1/links", "")
	look(t, base+"/v1/links/A-1004") // without a key
	var m scraped
	fixture.Eventually(t, "all are counted", func() bool {
		m = scrapeAccount(t, url)
		return m.sum("kyclink_http_requests_total") == 6
	})
	m.expect(t, 1, "kyclink_http_requests_total", `method="POST"`, `route="/v1/links"`, `status="2xx"`)
	m.expect(t, 1, "kyclink_http_requests_total", `method="GET"`, `route="/v1/links/{application_id}"`, `status="2xx"`)
	m.expect(t, 1, "kyclink_http_requests_total", `method="GET"`, `route="/v1/links/{application_id}"`, `status="4xx"`)
	m.expect(t, 1, "kyclink_http_requests_total", `method="other"`, `route="/v1/links"`, `status="4xx"`)
	m.expect(t, 2, "kyclink_http_requests_total", `route="none"`, `status="4xx"`)
	m.expect(t, 6, "kyclink_http_request_duration_seconds_count")
	m.expect(t, 1, "kyclink_backlog_requests", `lane="interactive"`)
	for _, secret := range []string{"A-100", s.key, "nowhere", "BREW"} {
		if strings.Contains(string(m), secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
	if status, text := look(t, url+"/readyz"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	server.Stop()
	fixture.Eventually(t, "it is not ready without Redis", func() bool {
		status, _ := look(t, url+"/readyz")
		return status == http.StatusServiceUnavailable
	})
}
