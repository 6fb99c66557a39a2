package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
)

func TestMain(m *testing.M) { fixture.Alone(m) }

// upstream is a simulator behind a real server, with a client that has a token.
type upstream struct {
	t     *testing.T
	sim   *simulator.Simulator
	url   string
	http  *http.Client
	token string
}

func start(t *testing.T, cfg simulator.Config) *upstream {
	t.Helper()
	sim := simulator.New(cfg)
	url, stop, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		stop()
		transport.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
	})
	u := &upstream{t: t, sim: sim, url: url, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	_, body, _ := u.send("POST", "/auth/api/generate-token", `{"clientId":"shop","clientSecret":"hush"}`)
	u.token = tokenIn(body)
	return u
}

func tokenIn(body string) string {
	var answer struct {
		ResponseCode int `json:"responseCode"`
		Data         struct {
			AccessToken string `json:"access_token"`
			ExpiresIn   int    `json:"expires_in"`
		} `json:"data"`
	}
	_ = json.Unmarshal([]byte(body), &answer)
	return answer.Data.AccessToken
}

func (u *upstream) send(method, path, body string) (*http.Response, string, error) {
	u.t.Helper()
	req, err := http.NewRequest(method, u.url+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	resp, err := u.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return resp, string(got), err
}

func (u *upstream) create(id string) (*http.Response, string, error) {
	u.t.Helper()
	return u.send("POST", "/kycverify/api/kycverify/kyc-verify-link", fmt.Sprintf(`{"applicationId":%q,"expiryTime":60}`, id))
}

func (u *upstream) script(s string) {
	u.t.Helper()
	resp, body, err := u.send("PUT", "/_simulator/script", s)
	if err != nil || resp.StatusCode != 200 {
		u.t.Fatalf("set script %s: error %v, answer %s", s, err, body)
	}
}

// want asks for a link and fails the test unless the answer is as expected.
func (u *upstream) want(id string, status int, contains string) {
	u.t.Helper()
	resp, body, err := u.create(id)
	if err != nil || resp.StatusCode != status || !strings.Contains(body, contains) {
		u.t.Fatalf("call for %s: got error %v, answer %v with body %s; want status %d and a body with %q", id, err, resp, body, status, contains)
	}
}

func TestSimulator_MakesAndListsLinks(t *testing.T) {
	u := start(t, simulator.Config{})
	u.want("A-1", 200, `"url":"https://simulator.invalid/kycverify/`)
	u.want("A-1", 200, `"responseCode":0`)
	u.want("A-2", 200, `"data":"`)
	ctx := context.Background()
	control := remote{u.url}
	a, err := control.application(ctx, "A-1")
	if err != nil || len(a.Links) != 2 || a.Calls != 2 || a.Links[0].URL != simulator.LinkPrefix+a.Links[0].LinkID {
		t.Fatalf("application: got %+v, error %v", a, err)
	}
	p, err := control.applications(ctx, 0, 1)
	if err != nil || p.Total != 2 || p.Next != 1 || p.Applications[0].ApplicationID != "A-1" {
		t.Fatalf("first page: got %+v, error %v", p, err)
	}
	p, _ = control.applications(ctx, p.Next, 10)
	if len(p.Applications) != 1 || p.Applications[0].ApplicationID != "A-2" {
		t.Fatalf("second page: got %+v", p)
	}
	s, err := control.state(ctx)
	if err != nil || s.Links != 3 || s.LinkCalls != 3 || s.SeveralLinks != 1 || s.ApplicationIDs != 2 || s.InFlight != 0 || s.TokenRequests != 1 {
		t.Fatalf("state: got %+v, error %v", s, err)
	}
	if unknown := u.sim.Application("unknown"); unknown.Calls != 0 || len(unknown.Links) != 0 || u.sim.State().ApplicationIDs != 2 {
		t.Fatalf("unknown application id: got %+v", unknown)
	}
	if err := control.reset(ctx); err != nil {
		t.Fatal(err)
	}
	if s := u.sim.State(); s.Links != 0 || s.ApplicationIDs != 0 {
		t.Fatalf("state after a reset: got %+v", s)
	}
	u.want("A-1", 401, "unauthorized")
}

func TestSimulator_AcceptsOnlyValidCredentialsAndTokens(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	u := start(t, simulator.Config{ClientID: "shop", ClientSecret: "hush", TokenLifetime: time.Minute, Now: clock})
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/auth/api/generate-token", `{"clientId":"shop","clientSecret":"hush"}`, 200},
		{"GET", "/auth/api/access-token?clientId=shop&clientSecret=hush", "", 200},
		{"POST", "/auth/api/generate-token", `{"clientId":"shop","clientSecret":"wrong"}`, 401},
		{"GET", "/auth/api/access-token?clientId=other&clientSecret=hush", "", 401},
		{"POST", "/auth/api/generate-token", `{}`, 422},
		{"GET", "/auth/api/access-token?clientId=shop", "", 422},
		{"GET", "/auth/api/generate-token", "", 404},
		{"POST", "/auth/api/access-token", "", 404},
	} {
		resp, body, err := u.send(c.method, c.path, c.body)
		if err != nil || resp.StatusCode != c.status || strings.Contains(body, "hush") {
			t.Errorf("%s %s %s: got error %v, status %d, body %s; want status %d without the secret", c.method, c.path, c.body, err, resp.StatusCode, body, c.status)
		}
	}
	u.want("A-1", 200, "url")
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	u.want("A-1", 401, "unauthorized")
	_, body, _ := u.send("POST", "/auth/api/generate-token", `{"clientId":"shop","clientSecret":"hush"}`)
	u.token = tokenIn(body)
	u.want("A-1", 200, "url")
	u.sim.Revoke()
	u.want("A-1", 401, "unauthorized")
	if s := u.sim.State(); s.TokenRequests != 8 || s.TokensIssued != 4 || s.Faults["unauthorized"] != 6 {
		t.Fatalf("got state %+v", s)
	}
}

func TestSimulator_RejectsInvalidBodies(t *testing.T) {
	u := start(t, simulator.Config{})
	for _, body := range []string{
		``, `[]`, `{}`, `{"applicationId":""}`, `{"applicationId":7}`, `{"applicationId":"A","typo":1}`,
		`{"applicationId":"A","expiryTime":0}`, `{"applicationId":"A","expiryTime":null}`, `{"applicationId":"A","expiryTime":"soon"}`,
		`{"applicationId":"A","redirect_url":null}`, `{"applicationId":"A","redirect_url":"nowhere"}`,
		`{"applicationId":"A","document_optional":"yes"}`, `{"applicationId":"A","document_optional":null}`,
		`{"applicationId":"A","workflowId":""}`,
	} {
		resp, got, err := u.send("POST", "/kycverify/api/kycverify/kyc-verify-link", body)
		if err != nil || resp.StatusCode != 400 || !strings.Contains(got, `"responseCode":5002`) {
			t.Errorf("body %s: got error %v, answer %s; want code 5002", body, err, got)
		}
	}
	for _, body := range []string{
		`{"applicationId":"A"}`,
		`{"applicationId":"A","expiryTime":"60","redirect_url":"https://shop.example/x","document_optional":false,"workflowId":"w"}`,
	} {
		if resp, got, err := u.send("POST", "/kycverify/api/kycverify/kyc-verify-link", body); err != nil || resp.StatusCode != 200 {
			t.Errorf("body %s: got error %v, answer %s; want a link", body, err, got)
		}
	}
}

func TestSimulator_AnswersWithTheScriptedFault(t *testing.T) {
	u := start(t, simulator.Config{})
	for _, c := range []struct {
		fault, contains string
		status, links   int
	}{
		{`"http_500"`, `"statusCode":500`, 500, 0},
		{`{"fault":"http_504","made":true}`, `"statusCode":504`, 504, 1},
		{`{"fault":"http_403","envelope":"text"}`, "simulated fault", 403, 0},
		{`{"fault":"http_502","envelope":"empty"}`, "", 502, 0},
		{`"code_1000"`, `"responseCode":1000`, 200, 0},
		{`{"fault":"code_5003","envelope":"code","status":400}`, `"code":5003`, 400, 0},
		{`{"fault":"code_7001","envelope":"statusCode"}`, `"statusCode":7001`, 200, 0},
		{`{"fault":"code_1","envelope":"message"}`, `"message"`, 200, 0},
		{`{"fault":"http_422","envelope":"zero"}`, `"code":0`, 422, 0},
		{`{"fault":"http_400","envelope":"html"}`, "<title>Access denied</title>", 400, 0},
		{`{"fault":"http_200","envelope":"login"}`, `type="password"`, 200, 0},
		{`{"fault":"http_409","envelope":"proxy"}`, `{"error":{"code":409`, 409, 0},
		{`"http_525"`, `"statusCode":525`, 525, 0},
		{`{"fault":"foreign_url","host":"links.example"}`, `"url":"https://links.example/`, 200, 1},
		{`"not_json"`, "<html>", 200, 1},
		{`"redirect"`, "", 302, 0},
		{`"no_url"`, `"data":"`, 200, 1},
		{`"no_data"`, `"url":"https://simulator.invalid/`, 200, 1},
		{`"foreign_url"`, `"url":"https://elsewhere.invalid/`, 200, 1},
		{`"too_long"`, `xxxx`, 200, 1},
	} {
		id := "id-" + c.fault
		rule, _ := json.Marshal(map[string]string{"match": "id-*"})
		fault := c.fault
		if strings.HasPrefix(fault, `"`) {
			fault = `{"fault":` + fault + `}`
		}
		u.script(`{"rules":[` + strings.TrimSuffix(string(rule), "}") + "," + fault[1:] + `]}`)
		u.want(id, c.status, c.contains)
		if a := u.sim.Application(id); len(a.Links) != c.links || a.Faults != 1 {
			t.Errorf("fault %s: got %d links and %d faults, want %d links and 1 fault", c.fault, len(a.Links), a.Faults, c.links)
		}
	}
	if s := u.sim.State(); s.RedirectsFollowed != 0 || s.Faults["http_500"] != 1 {
		t.Errorf("got state %+v", s)
	}
	u.script(`{}`)
	u.http.CheckRedirect = nil
	u.script(`{"outage":"redirect"}`)
	_, _, _ = u.create("A")
	if s := u.sim.State(); s.RedirectsFollowed != 1 {
		t.Errorf("got %d followed redirects, want 1", s.RedirectsFollowed)
	}
}

func TestSimulator_BreaksConnections(t *testing.T) {
	u := start(t, simulator.Config{Script: simulator.Script{Rules: []simulator.Rule{
		{Match: "before", Fault: simulator.Fault{Name: "reset_before"}},
		{Match: "after", Fault: simulator.Fault{Name: "reset_after"}},
		{Match: "half", Fault: simulator.Fault{Name: "truncated"}},
	}}})
	for id, links := range map[string]int{"before": 0, "after": 1} {
		if _, _, err := u.create(id); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: got error %v, want a connection reset", id, err)
		}
		if a := u.sim.Application(id); len(a.Links) != links {
			t.Errorf("%s: got %d links, want %d", id, len(a.Links), links)
		}
	}
	if _, body, err := u.create("half"); !errors.Is(err, io.ErrUnexpectedEOF) || json.Valid([]byte(body)) || body == "" {
		t.Errorf("half: got error %v, body %q; want half an answer", err, body)
	}
	if a := u.sim.Application("half"); len(a.Links) != 1 {
		t.Errorf("half: got %d links, want 1", len(a.Links))
	}
}

func TestSimulator_HangsUntilReleased(t *testing.T) {
	u := start(t, simulator.Config{})
	u.script(`{"rules":[{"match":"made","fault":"hang","made":true},{"match":"*","fault":"hang"}]}`)
	answers := make(chan string, 2)
	for _, id := range []string{"made", "other"} {
		go func() {
			_, body, err := u.create(id)
			answers <- fmt.Sprint(body, err)
		}()
	}
	fixture.Eventually(t, "both calls hang", func() bool { return u.sim.State().Faults["hang"] == 2 })
	select {
	case a := <-answers:
		t.Fatalf("a hanging call was answered: %s", a)
	default:
	}
	if err := (remote{u.url}).release(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a := <-answers; !strings.Contains(a, "simulator.invalid") {
			t.Fatalf("released call: got %s, want a link", a)
		}
	}
	if s := u.sim.State(); s.Links != 2 || s.InFlight != 0 {
		t.Fatalf("got state %+v; want 2 links and no call in flight", s)
	}
}

func TestSimulator_StopsHangingWhenTheCallerDisconnects(t *testing.T) {
	u := start(t, simulator.Config{})
	u.script(`{"outage":"hang"}`)
	u.http.Timeout = 20 * time.Millisecond
	if _, _, err := u.create("A"); err == nil {
		t.Fatal("a hanging call was answered")
	}
	fixture.Eventually(t, "no call is in flight", func() bool { return u.sim.State().InFlight == 0 })
	if s := u.sim.State(); s.Links != 0 {
		t.Fatalf("got %d links, want none", s.Links)
	}
}

func TestSimulator_OutageAlsoFailsTokenRequests(t *testing.T) {
	u := start(t, simulator.Config{})
	u.script(`{"outage":{"fault":"http_503","retry_after":"2s"}}`)
	u.want("A", 503, "503")
	resp, _, _ := u.send("POST", "/auth/api/generate-token", `{"clientId":"shop","clientSecret":"hush"}`)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "2" {
		t.Fatalf("token request: got %v, want 503 with Retry-After: 2", resp)
	}
	u.script(`{"outage":"reset_before"}`)
	if _, _, err := u.create("A"); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got error %v, want a connection reset", err)
	}
	u.script(`{"token_fault":"http_500"}`)
	if resp, _, _ := u.send("GET", "/auth/api/access-token?clientId=a&clientSecret=b", ""); resp.StatusCode != 500 {
		t.Fatalf("token request: got %v, want 500", resp)
	}
	u.want("A", 200, "url")
}

func TestSimulator_EnforcesTheRateLimit(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	u := start(t, simulator.Config{Now: func() time.Time { return now }})
	u.script(`{"rate_limit":{"per_second":0.5,"burst":2}}`)
	u.want("A", 200, "url")
	u.want("B", 200, "url")
	resp, _, _ := u.create("C")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "2" {
		t.Fatalf("got %v, want 429 with Retry-After: 2", resp)
	}
	now = now.Add(2 * time.Second)
	u.want("C", 200, "url")
	u.want("C", 429, "too many")
	if s := u.sim.State(); s.Faults["rate_limited"] != 2 || s.Links != 3 {
		t.Fatalf("got state %+v", s)
	}
}

func TestSimulator_RefusesCallsWithoutCredit(t *testing.T) {
	u := start(t, simulator.Config{})
	u.script(`{"credit":2}`)
	u.want("A", 200, "url")
	u.want("B", 200, "url")
	u.want("C", 200, `"responseCode":5003`)
	control := remote{u.url}
	if err := control.topUp(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	u.want("C", 200, "url")
	u.want("D", 200, `"responseCode":5003`)
	if s := u.sim.State(); *s.Credit != 0 || s.Links != 3 || s.Faults["no_credit"] != 2 {
		t.Fatalf("got state %+v", s)
	}
	if err := control.topUp(context.Background(), 0); err == nil {
		t.Fatal("adding no credit did not fail")
	}
}

func TestSimulator_DelaysAnswers(t *testing.T) {
	u := start(t, simulator.Config{})
	u.script(`{"latency":"30ms","jitter":"5ms"}`)
	before := time.Now()
	u.want("A", 200, "url")
	if took := time.Since(before); took < 25*time.Millisecond {
		t.Fatalf("the answer took %v, want at least 25ms", took)
	}
}

func TestSimulator_RemembersTheLatestCalls(t *testing.T) {
	sim, token := withScript(t, `{}`)
	for i := range 120 {
		callDirectly(sim, token, fmt.Sprint(i))
	}
	p := sim.Calls(0, 20)
	if p.Total != 120 || len(p.Calls) != 20 || p.Calls[0].Number != 71 || p.Calls[0].ApplicationID != "70" || p.Next != 90 {
		t.Fatalf("got page %+v", p)
	}
	if p = sim.Calls(p.Next, 100); len(p.Calls) != 30 || p.Calls[29].ApplicationID != "119" || p.Next != 120 {
		t.Fatalf("got page %+v", p)
	}
	if p = sim.Calls(120, 100); len(p.Calls) != 0 || p.Next != 120 {
		t.Fatalf("got page %+v", p)
	}
}
