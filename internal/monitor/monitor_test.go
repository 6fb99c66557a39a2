package monitor

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/tasks"
)

var update = flag.Bool("update", false, "write the golden file")

func TestMain(m *testing.M) { fixture.Alone(m) }

// fakeAccount returns the given gauges and errors.
type fakeAccount struct {
	gauges    account.Gauges
	err       error
	unwritten error
	// undiagnosed is the error of the diagnosis.
	undiagnosed error
	hangs       chan struct{} // Gauges hangs until it is closed, even if the context ends
}

func (a fakeAccount) Gauges(context.Context) (account.Gauges, error) {
	if a.hangs != nil {
		<-a.hangs
	}
	return a.gauges, a.err
}

// diagnose reports an outage while the gate is closed, and held requests beside it.
func (a fakeAccount) diagnose(context.Context) (d diagnosis.Diagnosis, err error) {
	d.Code = diagnosis.NothingToDo
	if a.gauges.Gate.State == "closed" {
		d.Code = diagnosis.FaceKiOutage
		d.Findings = []diagnosis.Finding{{Code: diagnosis.Held}}
	}
	return d, a.undiagnosed
}

func (a fakeAccount) WriteError() error { return a.unwritten }

func newServer(a fakeAccount) *Server {
	return New(Config{Name: "default", Account: a, Diagnose: a.diagnose, Version: "v1", Log: zap.NewNop(), Limited: zap.NewNop()})
}

// busy returns a server with a value for every metric.
func busy() *Server {
	o := newServer(fakeAccount{gauges: account.Gauges{
		Gate: admission.GateStatus{State: "closed", Reason: "outage"}, Rate: 5, Workers: 2, Backlog: account.Backlog{Interactive: 1, Bulk: 2},
		Memory: account.Memory{Used: 300, Max: 400},
		Oldest: account.Oldest{Interactive: 15 * time.Second, Bulk: time.Minute},
		Held:   3, Failed: 4, GivenUp: 5, Pending: 6, Created: 7, EndedFailed: 8, EndedCancelled: 9, PossibleDuplicates: 10,
		Results: results.Status{Length: 900, Cap: 1000, Dropped: 11, Groups: []results.Group{{Group: "crm", Lag: 12, Pending: 13, Behind: 14.5}, {Group: "\xff"}, {Group: "\xfe"}}},
	}})
	o.WatchCertificate(func() time.Time { return time.Unix(1_700_000_000, 0) })
	o.Admitted(context.Background(), tasks.Interactive, 4*time.Second)
	o.Admitted(context.Background(), tasks.Bulk, 3*time.Second)
	o.Created(context.Background(), tasks.Bulk, 90*time.Second)
	o.Attempt(context.Background(), tasks.Bulk, fault.LabelCreated, "", time.Second)
	o.Attempt(context.Background(), tasks.Bulk, fault.Uncertain.Label(), string(fault.Connection), 5*time.Second)
	o.Delivery("delivered", "", 7*time.Second)
	o.Delivery("delivered", "", time.Second)
	o.Delivery("retried", string(fault.ReceiverError), time.Second)
	o.Delivery("given_up", string(fault.Rejected), time.Second)
	o.Recovered("orphaned", 2)
	o.Entries(3, 1)
	o.Request("POST", "/v1/links", 201, 2*time.Second)
	o.Request("BREW", "", 0, time.Second)
	o.Refused("revoked")
	return o
}

func gather(t *testing.T, o *Server) []*dto.MetricFamily {
	t.Helper()
	families, err := o.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "kyclink_") })
}

// Dashboards and alerts depend on these names, types and labels.
func TestMetrics_MatchGoldenFile(t *testing.T) {
	var got strings.Builder
	for _, f := range gather(t, busy()) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		got.WriteString(strings.ToLower(f.GetType().String()) + " " + f.GetName() + "{" + strings.Join(labels, ",") + "}\n\t" + f.GetHelp() + "\n")
	}
	golden := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the metrics differ from %s, on which dashboards depend: got\n%s", golden, got.String())
	}
}

func TestMetrics_FollowNamingConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(busy().registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetrics_CountEveryEvent(t *testing.T) {
	body := scrape(t, busy())
	for _, want := range []string{
		`kyclink_build_info{version="v1"} 1`,
		`kyclink_attempts_total{lane="bulk",outcome="created",reason="none"} 1`,
		`kyclink_attempts_total{lane="bulk",outcome="unknown",reason="connection"} 1`,
		`kyclink_attempts_total{lane="bulk",outcome="no_link",reason="connection"} 0`,
		`kyclink_call_duration_seconds_count{outcome="unknown"} 1`,
		`kyclink_call_duration_seconds_sum{outcome="unknown"} 5`,
		`kyclink_call_duration_seconds_sum{outcome="created"} 1`,
		`kyclink_admission_wait_seconds_sum{lane="interactive"} 4`,
		`kyclink_admission_wait_seconds_count{lane="bulk"} 1`,
		`kyclink_admission_wait_seconds_sum{lane="bulk"} 3`,
		`kyclink_redis_memory_used_bytes{account="default"} 300`,
		`kyclink_redis_memory_max_bytes{account="default"} 400`,
		`kyclink_certificate_expiry_timestamp_seconds 1.7e+09`,
		`kyclink_link_duration_seconds_sum{lane="bulk"} 90`,
		`kyclink_link_duration_seconds_count{lane="interactive"} 0`,
		`kyclink_backlog_oldest_age_seconds{account="default",lane="interactive"} 15`,
		`kyclink_backlog_oldest_age_seconds{account="default",lane="bulk"} 60`,
		`kyclink_callback_attempts_total{reason="none",result="delivered"} 2`,
		`kyclink_callback_attempts_total{reason="receiver_error",result="retried"} 1`,
		`kyclink_callback_attempts_total{reason="rejected",result="given_up"} 1`,
		`kyclink_callback_duration_seconds_count 4`,
		`kyclink_callback_duration_seconds_sum 10`,
		`kyclink_intake_entries_total{result="accepted"} 3`,
		`kyclink_intake_entries_total{result="rejected"} 1`,
		`kyclink_sweep_mended_total{kind="orphaned"} 2`,
		`kyclink_http_requests_total{method="POST",route="/v1/links",status="2xx"} 1`,
		`kyclink_http_requests_total{method="other",route="none",status="none"} 1`,
		`kyclink_http_unauthorized_total{reason="revoked"} 1`,
		`kyclink_http_request_duration_seconds_sum{route="/v1/links"} 2`,
		`kyclink_redis_up 1`,
		`kyclink_workers{account="default"} 2`,
		`kyclink_rate_limit_calls_per_second{account="default"} 5`,
		`kyclink_backlog_requests{account="default",lane="interactive"} 1`,
		`kyclink_backlog_requests{account="default",lane="bulk"} 2`,
		`kyclink_requests_held{account="default"} 3`,
		`kyclink_requests_failed{account="default"} 4`,
		`kyclink_callbacks_given_up{account="default"} 5`,
		`kyclink_callbacks_pending{account="default"} 6`,
		`kyclink_requests_ended_total{account="default",status="created"} 7`,
		`kyclink_requests_ended_total{account="default",status="failed"} 8`,
		`kyclink_results_entries{account="default"} 900`,
		`kyclink_results_oldest_age_seconds{account="default"} 0`,
		`kyclink_results_dropped_total{account="default"} 11`,
		`kyclink_results_unacknowledged{account="default",group="\"\\xff\""} 0`,
		`kyclink_results_unacknowledged{account="default",group="\"\\xfe\""} 0`,
		`kyclink_requests_ended_total{account="default",status="cancelled"} 9`,
		`kyclink_possible_duplicates_total{account="default"} 10`,
		`kyclink_gate_state{account="default",state="closed"} 1`,
		`kyclink_gate_state{account="default",state="open"} 0`,
		`kyclink_gate_closed{account="default",reason="outage"} 1`,
		`kyclink_gate_closed{account="default",reason="paused"} 0`,
		`kyclink_status{account="default",code="outage"} 1`,
		`kyclink_status{account="default",code="held"} 1`,
		`kyclink_status{account="default",code="flowing"} 0`,
		`kyclink_results_cap{account="default"} 1000`,
		`kyclink_results_unacknowledged{account="default",group="crm"} 25`,
		`kyclink_results_behind_seconds{account="default",group="crm"} 14.5`,
		`go_goroutines `, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(body, "paused\"} 1") || strings.Contains(body, `kyclink_attempts_total{lane="bulk",outcome="no_link",reason="paused"`) {
		t.Error("an interrupted call, which was not sent, is counted as an attempt")
	}
	if body := scrape(t, newServer(fakeAccount{})); strings.Contains(body, "kyclink_results_cap") {
		t.Error("/metrics has kyclink_results_cap, although no cap is set")
	}
}

// A scrape has the other metrics of an account that cannot be diagnosed.
func TestMetrics_OmitTheStatusThatIsNotKnown(t *testing.T) {
	body := scrape(t, newServer(fakeAccount{undiagnosed: errors.New("Redis is busy"), gauges: account.Gauges{Workers: 2}}))
	if strings.Contains(body, "kyclink_status") || !strings.Contains(body, `kyclink_workers{account="default"} 2`) || !strings.Contains(body, "kyclink_redis_up 1") {
		t.Errorf("without a diagnosis, /metrics is\n%s", body)
	}
}

// serve runs a server until the end of the test, and returns its URL.
func serve(t *testing.T, o *Server, ready func() error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.Serve(ctx, l, ready)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		http.DefaultClient.CloseIdleConnections()
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func alwaysReady() error { return nil }

func scrape(t *testing.T, o *Server) string {
	t.Helper()
	status, body := get(t, serve(t, o, alwaysReady)+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: got %d %s", status, body)
	}
	return body
}

func TestServer_ReportsItsOwnMetricsWithoutRedis(t *testing.T) {
	hangs, unwritten := make(chan struct{}), errors.New("no answer from Redis")
	for name, a := range map[string]fakeAccount{
		"away": {err: errors.New("no Redis"), unwritten: unwritten}, "hangs": {hangs: hangs, unwritten: unwritten},
	} {
		t.Run(name, func(t *testing.T) {
			o := newServer(a)
			o.Entries(3, 1)
			body := scrape(t, o) // which ends although Redis hangs
			if !strings.Contains(body, "\nkyclink_redis_up 0") || !strings.Contains(body, `kyclink_intake_entries_total{result="accepted"} 3`) ||
				strings.Contains(body, "kyclink_results_entries") {
				t.Errorf("got metrics\n%s\nwant the process's own, kyclink_redis_up 0, and none of the account", body)
			}
			if status, text := get(t, serve(t, o, alwaysReady)+"/readyz"); status != http.StatusServiceUnavailable || text != "no answer from Redis\n" {
				t.Errorf("/readyz: got %d %q, want 503 with the error of Redis", status, text)
			}
		})
	}
	close(hangs)
}

func TestServer_ReportsRefusedWrites(t *testing.T) {
	o := newServer(fakeAccount{unwritten: errors.New("writes are refused by Redis (OOM)")})
	if body := scrape(t, o); !strings.Contains(body, "\nkyclink_redis_up 0") || !strings.Contains(body, "kyclink_results_entries") {
		t.Errorf("got metrics\n%s\nwant kyclink_redis_up 0 and those of the account", body)
	}
	if status, text := get(t, serve(t, o, alwaysReady)+"/readyz"); status != http.StatusServiceUnavailable || text != "writes are refused by Redis (OOM)\n" {
		t.Errorf("/readyz: got %d %q, want 503 with the error of Redis", status, text)
	}
}

func TestServer_IsLiveButNotReadyWhileTheWorkerStops(t *testing.T) {
	var stopping error
	url := serve(t, newServer(fakeAccount{}), func() error { return stopping })
	for _, path := range []string{"/livez", "/readyz"} {
		if status, text := get(t, url+path); status != http.StatusOK || text != "ok\n" {
			t.Errorf("%s: got %d %q, want 200", path, status, text)
		}
	}
	stopping = errors.New("the worker is stopping")
	if status, text := get(t, url+"/readyz"); status != http.StatusServiceUnavailable || text != "the worker is stopping\n" {
		t.Errorf("/readyz while the worker stops: got %d %q, want 503 with the reason", status, text)
	}
	if status, _ := get(t, url+"/livez"); status != http.StatusOK {
		t.Errorf("/livez while the worker stops: got %d, want 200", status)
	}
	for _, path := range []string{"/", "/metrics/", "/debug/pprof/"} {
		if status, _ := get(t, url+path); status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, status)
		}
	}
	resp, err := http.Post(url+"/metrics", "text/plain", nil)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /metrics: got %v, %v; want 405", resp, err)
	}
	resp.Body.Close()
}

func TestSharedRead_ReturnsPanicAsError(t *testing.T) {
	s := sharedRead[int]{within: time.Second, read: func(context.Context) (int, error) { panic("hush") }}
	if n, err := s.value(); n != 0 || err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %d, %v; want an error without the panic's text", n, err)
	}
}

// The page contains the alerts.
func TestMetrics_NamedInDocsExist(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	several := NewSeveral([]Config{{Name: "shop", Account: fakeAccount{}, Version: "v1", Ready: func() error { return nil }, Log: zap.NewNop(), Limited: zap.NewNop()}})
	for _, f := range append(gather(t, busy()), gather(t, several)...) {
		known[f.GetName()] = true
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`kyclink_[a-z_]+`).FindAllString(string(page), -1) {
		named[name] = true
		if !known[name] && !known[regexp.MustCompile(`_(count|sum|bucket)$`).ReplaceAllString(name, "")] {
			t.Errorf("docs/operations.md names %s, which does not exist", name)
		}
	}
	if len(named) < 4 {
		t.Errorf("docs/operations.md names only %v, want at least 4 metrics", named)
	}
}

// BenchmarkAttempt measures the metrics of one request.
func BenchmarkAttempt(b *testing.B) {
	m := newMetrics()
	b.ReportAllocs()
	for b.Loop() {
		m.Admitted(b.Context(), tasks.Bulk, time.Second)
		m.Attempt(b.Context(), tasks.Bulk, fault.LabelCreated, "", time.Second)
	}
}
