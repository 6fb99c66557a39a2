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
	"go.uber.org/zap/zaptest"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/internal/wiring"
	"github.com/kyclink/kyclink/tasks"
	"github.com/kyclink/kyclink/worker"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// openAPI returns the parsed openapi.yaml, against which the harness validates requests and answers.
var openAPI = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromData(document)
})

// openAPIRouter returns a router that finds the operation of a request in openapi.yaml.
var openAPIRouter = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openAPI()
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{csvType, excelType, ndjsonType, "application/yaml"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.PlainBodyDecoder) // openapi.yaml describes them as text
	}
	return gorillamux.NewRouter(doc)
})

// harness is an API of one account. Only its keys and its audit trail are replaced by fakes.
type harness struct {
	*fixture.Account

	ledger *storage.Stores
	api    *API
	url    string
	trail  *trail
	http   *http.Client
	stop   func() // drains the API

	maxBacklog int // limit of each lane's backlog from the next upload on; 0 means no limit
}

// keys accepts keys that are lists of their scopes, such as "read,operate".
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

const allScopes = "enqueue,read,operate"

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

// actions returns the action and target of each change.
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

func newHarness(t testing.TB) *harness { t.Helper(); return newHarnessOn(t, fixture.Redis(), nil) }

// newHarnessOn starts an API on a Redis server. If change is not nil, it changes the
// API's Config.
func newHarnessOn(t testing.TB, server *redistest.Server, change func(*Config)) *harness {
	t.Helper()
	s := &harness{Account: fixture.NewAccountOn(t, server), trail: &trail{}}
	s.ledger = storage.New(s.Redis, storage.Config{Fleet: fleet.Config{Account: s.Keys.Account, Simulated: true}})
	var log lockedBuffer
	s.expectNoSecrets(&log)
	cfg := Config{
		Redis: s.Redis, Stores: s.ledger, Keys: keys{}, Audit: s.trail, MaxBody: 1 << 20, PerSecond: 100_000,
		Log: zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zap.InfoLevel)),
	}
	cfg.Client = s.Client
	cfg.Importer = func(onFull func(*tasks.BacklogError)) *tasks.Client {
		return tasks.NewClient(s.Redis, tasks.Config{Account: s.Keys.Account, MaxBacklog: s.maxBacklog, OnFull: onFull})
	}
	if change != nil {
		change(&cfg)
	}
	s.api = New(cfg)
	s.api.failedAuth = newFailedAuth(rate.Inf)
	s.api.timeout, s.api.diagnosisTimeout = time.Minute, time.Minute // for a busy machine
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	s.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.api.Serve(ctx, l, nil) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		s.http.CloseIdleConnections()
		s.Must(<-ended)
	})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2000
	s.http = &http.Client{Transport: validating{t, transport}, Timeout: 4 * time.Minute}
	t.Cleanup(s.stop)
	return s
}

// expectNoSecrets checks, after the test, that the log contains no secret.
func (s *harness) expectNoSecrets(log *lockedBuffer) {
	s.Cleanup(func() {
		text := log.String()
		for _, secret := range []string{"simulator.invalid", "shop.example", "Bearer", "enqueue,read,operate\","} {
			if strings.Contains(strings.ReplaceAll(text, "name of "+allScopes, ""), secret) {
				s.Errorf("the log contains %q:\n%s", secret, text[:min(len(text), 3000)])
			}
		}
	})
}

// startWorker runs a worker and a simulated FaceKi until the end of the test.
func (s *harness) startWorker(script simulator.Script, perSecond int) *simulator.Simulator {
	s.Helper()
	sim, url := fixture.Upstream(s, simulator.Config{ClientID: "shop", ClientSecret: "hush", Script: script})
	s.Must(s.Redis.HSet(s.Context(), s.Keys.Tag()+":gate", "n", perSecond, "per", 1000, "burst", max(2, perSecond/10)).Err())
	cfg := faceki.Config{
		BaseURL: url, ClientID: "shop", ClientSecret: "hush", Simulated: true, Timeout: 10 * time.Second,
	}
	client := faceki.New(cfg, time.Now, faceki.NewTokens(s.Redis, s.Keys, cfg))
	w := worker.New(s.Redis, wiring.NewUpstream(client), worker.Config{
		Account:   worker.Account{Name: s.Keys.Account, Simulated: true},
		Defaults:  worker.Defaults{ExpiryMinutes: 60},
		Calls:     worker.Calls{Concurrency: 64, Timeout: 10 * time.Second},
		Telemetry: worker.Telemetry{Log: zaptest.NewLogger(s, zaptest.Level(zap.InfoLevel))},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		s.Must(<-ended)
		client.Close()
	})
	return sim
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body []byte
}

// reason returns the type of a problem document, or "".
func (a answer) reason() string {
	var p problem
	_ = json.Unmarshal(a.body, &p)
	reason, ok := strings.CutPrefix(p.Type, typeBase)
	if !ok { // the type of something else
		return ""
	}
	return reason
}

func decode[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("decode the answer %d %s: %v", a.StatusCode, a.body, err)
	}
	return v
}

// send sends a request with a key of all scopes. The headers are pairs of a name and a
// value; an empty value removes the header.
func (s *harness) send(method, path, body string, headers ...string) answer {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	s.Must(err)
	req.Header.Set("Authorization", "Bearer "+allScopes)
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
	return s.sendRequest(req)
}

func (s *harness) sendRequest(req *http.Request) answer {
	s.Helper()
	resp, err := s.http.Do(req)
	if err != nil {
		s.Errorf("%s %s: %v", req.Method, req.URL, err)
		return answer{Response: &http.Response{Header: http.Header{}, Request: req}}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	s.Must(err)
	return answer{resp, body}
}

// expect ends the test unless the answer has the status and, if it is a problem, the reason.
func (s *harness) expect(a answer, status int, reason string) answer {
	s.Helper()
	if a.StatusCode != status || a.reason() != reason {
		s.Fatalf("%s %s: got %d %q, want %d %q\n%s", a.Request.Method, a.Request.URL, a.StatusCode, a.reason(), status, reason, a.body)
	}
	return a
}

// expectNothingAccepted checks that the account has no record of a request.
func (s *harness) expectNothingAccepted() {
	s.Helper()
	found, err := s.Redis.Keys(s.Context(), "{kyclink:"+s.Keys.Account+"}/*").Result()
	s.Must(err)
	if len(found) > 0 {
		s.Errorf("requests were accepted: %v", found[:min(len(found), 10)])
	}
}

// validating validates every answer, and every request that succeeded, against openapi.yaml.
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
		v.t.Errorf("%s %s: the answer %d violates openapi.yaml: %s\n%.500s", r.Method, r.URL, resp.StatusCode, problem, got)
	}
	return resp, nil
}

// violation returns how a request or its answer violates openapi.yaml, or "".
func violation(r *http.Request, sent []byte, resp *http.Response, got []byte) string {
	if id := resp.Header.Get("X-Request-Id"); id == "" {
		return "it lacks the header X-Request-Id"
	}
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode >= 400 && kind != "application/problem+json" {
		return "its type is " + kind + ", want application/problem+json"
	}
	if resp.StatusCode >= 400 && r.Method != http.MethodHead {
		var p problem
		if json.Unmarshal(got, &p) != nil || p.Status != resp.StatusCode || !strings.HasPrefix(p.Type, typeBase) || p.RequestID != resp.Header.Get("X-Request-Id") {
			return "its body is not a problem document with the same status and request id"
		}
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusUnauthorized {
			return "" // openapi.yaml may not describe the path
		}
	}
	if r.Method == http.MethodHead {
		return "" // openapi.yaml does not describe HEAD
	}
	router, err := openAPIRouter()
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

// bearer checks only that there is a key. The API checks whether it is valid.
func bearer(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	if !strings.HasPrefix(in.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer ") {
		return in.NewError(errors.New("the request has no bearer key"))
	}
	return nil
}
