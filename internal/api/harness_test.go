package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
	"github.com/kyclink/kyclink/worker"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// described is openapi.yaml, against which everything is held.
var described = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromData(document)
})

// directions find what openapi.yaml says of a request.
var directions = sync.OnceValues(func() (routers.Router, error) {
	doc, err := described()
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{csvType, excelType, ndjsonType, "application/yaml"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.PlainBodyDecoder) // they are described as text
	}
	return gorillamux.NewRouter(doc)
})

// harness is one account, with everything real around the API but its keys.
type harness struct {
	*fixture.Account

	ledger *storage.Stores
	api    *API
	url    string
	trail  *trail
	http   *http.Client
	stop   func() // drains
	most   int    // of a lane's backlog, from the next upload on; 0: any number
}

// keys are their own names: "enqueue", "read,operate".
type keys struct{}

func (keys) Verify(_ context.Context, presented string) (apikey.Key, error) {
	k := apikey.Key{ID: "id of " + presented, Name: "name of " + presented}
	for s := range strings.SplitSeq(presented, ",") {
		if !slices.Contains(apikey.Scopes(), apikey.Scope(s)) {
			return apikey.Key{}, apikey.ErrUnknown
		}
		k.Scopes = append(k.Scopes, apikey.Scope(s))
	}
	return k, nil
}

const every = "enqueue,read,operate"

// trail is an audit trail in memory.
type trail struct {
	mu      sync.Mutex
	changes []audit.Change
}

func (a *trail) Append(_ context.Context, c audit.Change) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes = append(a.changes, c)
	return nil
}

// actions are what is in the trail: action and target.
func (a *trail) actions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, c := range a.changes {
		out = append(out, strings.TrimSpace(c.Action+" "+c.Target))
	}
	return out
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func open(t testing.TB) *harness { t.Helper(); return openAt(t, fixture.Redis(), nil) }

// openAt changes the API's Config before it is made.
func openAt(t testing.TB, server *redistest.Server, change func(*Config)) *harness {
	t.Helper()
	s := &harness{Account: fixture.NewAccountOn(t, server), trail: &trail{}}
	s.ledger = storage.New(s.Redis, storage.Config{Fleet: fleet.Config{Account: s.Keys.Account, Simulated: true}})
	var log lockedBuffer
	s.logged(&log)
	cfg := Config{
		Redis: s.Redis, Ledger: s.ledger, Keys: keys{}, Audit: s.trail, MaxBody: 1 << 20, PerSecond: 100_000,
		Dispatch: func(context.Context, request.Lane, request.Ref) error { return nil }, // the sweep does
		Log:      zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zap.InfoLevel)),
	}
	cfg.Client = s.Client
	cfg.Importer = func(onFull func(*tasks.BacklogError)) *tasks.Client {
		return tasks.NewClient(s.Redis, tasks.Config{Account: s.Keys.Account, MaxBacklog: s.most, OnFull: onFull})
	}
	if change != nil {
		change(&cfg)
	}
	s.api = New(cfg)
	s.api.failedAuth = newFailedAuth(rate.Inf)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	s.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.api.Serve(ctx, l, nil) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		s.http.CloseIdleConnections()
		s.Must(<-over)
	})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2000
	s.http = &http.Client{Transport: validating{t, transport}, Timeout: time.Minute}
	t.Cleanup(s.stop)
	return s
}

// logged holds, after the test, that no secret is in the log.
func (s *harness) logged(log *lockedBuffer) {
	s.Cleanup(func() {
		text := log.String()
		for _, secret := range []string{"simulator.invalid", "shop.example", "Bearer", "enqueue,read,operate\","} {
			if strings.Contains(strings.ReplaceAll(text, "name of "+every, ""), secret) {
				s.Errorf("the log holds %q:\n%s", secret, text[:min(len(text), 3000)])
			}
		}
	})
}

// work runs a worker against a simulator until the end of the test.
func (s *harness) work(script simulator.Script, perSecond int) *simulator.Simulator {
	s.Helper()
	sim, url := fixture.Upstream(s, simulator.Config{ClientID: "shop", ClientSecret: "hush", Script: script})
	s.Must(s.Redis.HSet(s.Context(), s.Keys.Tag()+":gate", "n", perSecond, "per", 1000, "burst", max(2, perSecond/10)).Err())
	cfg := faceki.Config{
		BaseURL: url, ClientID: "shop", ClientSecret: "hush", Simulated: true, Timeout: 10 * time.Second,
	}
	client := faceki.New(cfg, time.Now, faceki.NewTokens(s.Redis, s.Keys, cfg))
	w := worker.New(s.Redis, client, worker.Config{
		Account:  worker.Account{Name: s.Keys.Account, Simulated: true},
		Defaults: worker.Defaults{ExpiryMinutes: 60},
		Calls:    worker.Calls{Concurrency: 64, Timeout: 10 * time.Second},
	})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- w.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		s.Must(<-over)
		client.Close()
	})
	return sim
}

// answer is what came back.
type answer struct {
	*http.Response
	body []byte
}

func (a answer) reason() string {
	var p problem
	_ = json.Unmarshal(a.body, &p)
	return strings.TrimPrefix(p.Type, typeBase)
}

func decoded[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%d %s: %v", a.StatusCode, a.body, err)
	}
	return v
}

// headers are pairs.
func (s *harness) ask(method, path, body string, headers ...string) answer {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	s.Must(err)
	req.Header.Set("Authorization", "Bearer "+every)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	return s.do(req)
}

func (s *harness) do(req *http.Request) answer {
	s.Helper()
	resp, err := s.http.Do(req)
	if err != nil {
		s.Errorf("%s %s: %v", req.Method, req.URL, err)
		return answer{Response: &http.Response{Header: http.Header{}}}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	s.Must(err)
	return answer{resp, body}
}

// expect holds that a request is answered so; reason is of a problem.
func (s *harness) expect(a answer, status int, reason string) answer {
	s.Helper()
	if a.StatusCode != status || a.reason() != reason {
		s.Fatalf("%s %s: %d %s, want %d %s\n%s", a.Request.Method, a.Request.URL, a.StatusCode, a.reason(), status, reason, a.body)
	}
	return a
}

// none holds that nothing was accepted.
func (s *harness) none() {
	s.Helper()
	found, err := s.Redis.Keys(s.Context(), "{kyclink:"+s.Keys.Account+"}/*").Result()
	s.Must(err)
	if len(found) > 0 {
		s.Errorf("accepted: %v", found[:min(len(found), 10)])
	}
}

// validating holds every answer, and every request that was served, against
// openapi.yaml.
type validating struct {
	t    testing.TB
	next http.RoundTripper
}

func (v validating) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		sent, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := v.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(got))
	if problem := violation(r, sent, resp, got); problem != "" {
		v.t.Errorf("%s %s: %d is not as openapi.yaml says: %s\n%.500s", r.Method, r.URL, resp.StatusCode, problem, got)
	}
	return resp, nil
}

func violation(r *http.Request, sent []byte, resp *http.Response, got []byte) string {
	if id := resp.Header.Get("X-Request-Id"); id == "" {
		return "it has no X-Request-Id"
	}
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode >= 400 && kind != "application/problem+json" {
		return "it is no problem document, but " + kind
	}
	if resp.StatusCode >= 400 && r.Method != http.MethodHead {
		var p problem
		if json.Unmarshal(got, &p) != nil || p.Status != resp.StatusCode || !strings.HasPrefix(p.Type, typeBase) || p.RequestID != resp.Header.Get("X-Request-Id") {
			return "it is no problem document"
		}
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusUnauthorized {
			return "" // it may be of what is not described
		}
	}
	if r.Method == http.MethodHead {
		return "" // it is not described
	}
	router, err := directions()
	if err != nil {
		return err.Error()
	}
	asked := r.Clone(context.Background())
	asked.Body = io.NopCloser(bytes.NewReader(sent))
	route, params, err := router.FindRoute(asked)
	if err != nil {
		return err.Error()
	}
	request := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: bearer},
	}
	if resp.StatusCode < 400 {
		if err := openapi3filter.ValidateRequest(context.Background(), request); err != nil {
			return "the request: " + err.Error()
		}
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: resp.StatusCode, Header: resp.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), answer.SetBodyBytes(got)); err != nil {
		return err.Error()
	}
	return ""
}

// bearer holds that there is a key; whether it is a good one is the API's matter.
func bearer(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	if !strings.HasPrefix(in.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer ") {
		return in.NewError(errors.New("there is no key"))
	}
	return nil
}
