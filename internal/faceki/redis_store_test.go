package faceki

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// fleet is the Redis and the simulated FaceKi that the processes of one account share, both
// in real time.
type fleet struct {
	t    *testing.T
	srv  *redistest.Server
	rdb  *redis.Client
	sim  *simulator.Simulator
	cfg  Config
	keys keyspace.Keys

	clientCount int
}

func newFleet(t *testing.T, cfg simulator.Config) *fleet {
	t.Helper()
	t.Parallel() // they wait for real time
	f := &fleet{t: t, srv: redistest.Start(t), sim: simulator.New(cfg), cfg: config(), keys: keyspace.Keys{Account: "shop"}}
	f.rdb = f.redisClient()
	url, stop, err := f.sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	f.cfg.BaseURL, f.cfg.Simulated, f.cfg.Timeout = url, true, time.Minute
	return f
}

// redisClient returns a client that gives up sooner than those of redistest when Redis is
// unavailable. Its pool is large on every machine: after as many failed dials as the pool
// has connections, go-redis would dial only once a second.
func (f *fleet) redisClient() *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: f.srv.Addr, ContextTimeoutEnabled: true, MaxRetries: 1, DialerRetries: 1, PoolSize: 100})
	f.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// client returns the client of another process, whose clock may be wrong by 10 minutes.
func (f *fleet) client(change func(*Config)) *Client {
	cfg := f.cfg
	if change != nil {
		change(&cfg)
	}
	f.clientCount++
	offset := time.Duration(f.clientCount%3-1) * 10 * time.Minute
	c := New(cfg, func() time.Time { return time.Now().Add(offset) }, NewTokens(f.redisClient(), f.keys, cfg))
	f.t.Cleanup(c.Close)
	return c
}

func (f *fleet) setScript(s simulator.Script) {
	f.t.Helper()
	if err := f.sim.SetScript(s); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) expectTokenRequests(want int) {
	f.t.Helper()
	if n := f.sim.State().TokenRequests; n != want {
		f.t.Errorf("%d token requests, want %d", n, want)
	}
}

// clients returns the clients of n processes.
func (f *fleet) clients(n int) []*Client {
	cs := make([]*Client, n)
	for i := range cs {
		cs[i] = f.client(nil)
	}
	return cs
}

// revoke revokes the token. Each client still uses it for its next call: none reads Redis
// before, which each does once a second.
func (f *fleet) revoke(cs []*Client) {
	f.sim.Revoke()
	for _, c := range cs {
		c.tokens.mu.Lock()
		c.tokens.checkedAt = c.now().Add(time.Hour)
		c.tokens.mu.Unlock()
	}
}

// concurrently calls do for all clients at once, and waits.
func concurrently(cs []*Client, do func(*Client)) {
	var all sync.WaitGroup
	for _, c := range cs {
		all.Go(func() { do(c) })
	}
	all.Wait()
}

func TestTokens_AreRequestedOnceWhenFiftyProcessesStart(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	concurrently(f.clients(50), func(c *Client) {
		if f := c.Ready(t.Context()); f != nil {
			t.Error(f)
		}
		if f := createFault(c, attemptFor("A", request.Content{})); f != nil {
			t.Error(f)
		}
	})
	f.expectTokenRequests(1)
}

// TestTokens_AreReplacedBeforeTheyExpire uses a token for 18 s: its lifetime less the skew.
// A shorter lifetime has a shorter skew, which a call could exceed on a busy machine.
func TestTokens_AreReplacedBeforeTheyExpire(t *testing.T) {
	f := newFleet(t, simulator.Config{TokenLifetime: 20 * time.Second})
	begun := time.Now()
	concurrently(f.clients(8), func(c *Client) {
		for ; time.Since(begun) < 21*time.Second; <-time.After(20 * time.Millisecond) {
			if f := createFault(c, attemptFor("A", request.Content{})); f != nil {
				t.Error(f)
			}
		}
	})
	f.expectTokenRequests(2)
	if s := f.sim.State(); s.Faults["unauthorized"] != 0 {
		t.Errorf("%d calls with an expired token, want none", s.Faults["unauthorized"])
	}
}

// TestTokens_AreRequestedSeldomWhileAllAreRefused uses a spacing of 1 s instead of 30 s.
func TestTokens_AreRequestedSeldomWhileAllAreRefused(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	cs := f.clients(8)
	for _, c := range cs {
		c.tokens.spacing = time.Second
	}
	f.setScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_401"}}}})
	begun := time.Now()
	concurrently(cs, func(c *Client) {
		for time.Since(begun) < 2*time.Second || f.sim.State().TokenRequests < 2 && time.Since(begun) < time.Minute {
			c.Ready(t.Context())
			if f := createFault(c, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Unauthorized {
				t.Errorf("fault %+v, want unauthorized", f)
			}
		}
	})
	most := 1 + int(time.Since(begun)/time.Second) // 3, or more on a busy machine
	if n := f.sim.State().TokenRequests; n < 2 || n > most {
		t.Errorf("%d token requests, want 2 to %d", n, most)
	}
}

// TestTokens_AreReplacedOnceForAllWhenRevokedWithinTheSpacing revokes two tokens in a row soon
// after they were requested. Each is replaced when the spacing is over.
func TestTokens_AreReplacedOnceForAllWhenRevokedWithinTheSpacing(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	cs := f.clients(5)
	for _, c := range cs {
		c.tokens.spacing = time.Second
		create(t, c, 0)
	}
	for n := 2; n <= 3; n++ {
		f.revoke(cs)
		concurrently(cs, func(c *Client) {
			if f := create(t, c, fault.Unauthorized); !f.Renewed {
				t.Errorf("fault %+v does not say that the token is renewed", f)
			}
			if f := c.Ready(t.Context()); f != nil {
				t.Error(f)
			}
			create(t, c, 0)
		})
		f.expectTokenRequests(n)
	}
}

func TestTokens_AreReplacedOnceForAllWhenRefused(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	cs := f.clients(5)
	for _, c := range cs {
		c.tokens.spacing = 100 * time.Millisecond
		create(t, c, 0)
	}
	<-time.After(cs[0].tokens.spacing)
	f.revoke(cs)
	concurrently(cs, func(c *Client) {
		if f := create(t, c, fault.Unauthorized); !f.Renewed {
			t.Errorf("fault %+v does not say that the token is renewed", f)
		}
		create(t, c, 0)
	})
	f.expectTokenRequests(2)

	// A process that reads Redis, which each does once a second, does not use the old token.
	<-time.After(cs[0].tokens.spacing)
	f.sim.Revoke()
	create(t, cs[0], fault.Unauthorized)
	refused := f.sim.State().Faults["unauthorized"]
	<-time.After(recheck)
	for _, c := range cs {
		if f := c.Ready(t.Context()); f != nil {
			t.Fatal(f)
		}
		create(t, c, 0)
	}
	f.expectTokenRequests(3)
	if n := f.sim.State().Faults["unauthorized"]; n != refused {
		t.Errorf("%d calls with a token that is known to be refused, want none", n-refused)
	}
}

// TestTokens_AreRequestedOncePerSpacingWithRefusedCredentials ends the spacing in Redis, so
// that it does not depend on the speed of the machine.
func TestTokens_AreRequestedOncePerSpacingWithRefusedCredentials(t *testing.T) {
	f := newFleet(t, simulator.Config{ClientSecret: "another"})
	cs := f.clients(10)
	expectRefusal := func(c *Client) {
		if f := c.Ready(t.Context()); f == nil || f.Kind != fault.Unauthorized || f.Detail != `access token: HTTP 401: "invalid client credentials"` {
			t.Errorf("fault %+v, want refused credentials", f)
		}
	}
	concurrently(cs, expectRefusal)
	concurrently(cs, expectRefusal)
	f.expectTokenRequests(1)
	key := f.keys.Token(f.cfg.Fingerprint())
	until, err := f.rdb.HGet(t.Context(), key, "retry").Int64()
	if left := time.Until(time.UnixMilli(until)); err != nil || left <= 0 || left > spacing {
		t.Errorf("the fault is reused for %v (%v), want at most %v", left, err, spacing)
	}
	if err := f.rdb.HSet(t.Context(), key, "retry", time.Now().Add(-time.Millisecond).UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
	concurrently(cs, expectRefusal)
	f.expectTokenRequests(2)
}

func TestTokens_ShareTheFaultOfARequest(t *testing.T) {
	f := newFleet(t, simulator.Config{Script: simulator.Script{
		TokenFault: &simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(time.Minute)}}})
	cs := f.clients(2)
	create(t, cs[0], fault.TooMany)
	if f := create(t, cs[1], fault.TooMany); f.RetryAfter < 50*time.Second || f.RetryAfter > time.Minute {
		t.Errorf("fault %+v, want the rest of a minute as RetryAfter", f)
	}
	f.expectTokenRequests(1)
	for _, kind := range storedKinds() {
		stored := &fault.Fault{Kind: kind, Detail: "HTTP 500, code 1", RetryAfter: 5 * time.Second}
		if got := decodeFault(string(encodeFault(stored)), 2*time.Second); got.RetryAfter != 3*time.Second || got.Kind != kind || got.Detail != stored.Detail {
			t.Errorf("decoded %+v, want %+v with RetryAfter reduced by 2s", got, stored)
		}
	}
	for _, text := range []string{"", "x", `{"kind":"of a later version"}`} {
		if got := decodeFault(text, time.Hour); got.Kind != fault.TokenUnavailable || got.RetryAfter != 0 {
			t.Errorf("decoded %+v from %q, want an unavailable token", got, text)
		}
	}
}

func TestTokens_ShareTheFaultOfAnUntrustedServer(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS() // with a certificate that this machine does not trust
	defer s.Close()
	f.cfg.BaseURL = s.URL
	concurrently(f.clients(10), func(c *Client) {
		if f := c.Ready(t.Context()); f == nil || f.Kind != fault.NotSent || !strings.Contains(f.Detail, "which this machine does not trust") {
			t.Errorf("fault %+v, want an untrusted certificate", f)
		}
	})
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestClient_SendsNothingWithoutRedisUnlessItHasAToken(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	withToken := f.client(nil)
	create(t, withToken, 0)
	f.srv.Stop()
	c := f.client(nil)
	for range 3 {
		if f := c.Ready(t.Context()); f == nil || f.Kind != fault.TokenUnavailable {
			t.Errorf("fault %+v, want an unavailable token", f)
		}
		create(t, c, fault.TokenUnavailable)
	}
	if s := f.sim.State(); s.TokenRequests != 1 || s.LinkCalls != 1 {
		t.Errorf("%d token requests and %d create calls, want 1 and 1", s.TokenRequests, s.LinkCalls)
	}
	// A process that has a token still uses it.
	withToken.tokens.checkedAt = withToken.now().Add(-recheck)
	if f := withToken.Ready(t.Context()); f != nil {
		t.Error(f)
	}
	create(t, withToken, 0)
	f.srv.Restart(t)
	create(t, c, 0) // Redis has lost the token
	f.expectTokenRequests(2)
}

// TestTokens_AreStoredLaterWhenRedisWasUnavailable stops Redis while a token is requested.
func TestTokens_AreStoredLaterWhenRedisWasUnavailable(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.client(nil)
	request := c.tokens.requestToken
	c.tokens.requestToken = func(ctx context.Context) (Secret, time.Duration, *fault.Fault) {
		defer f.srv.Stop()
		return request(ctx)
	}
	create(t, c, 0)
	f.srv.Restart(t)
	c.tokens.checkedAt = c.now().Add(-recheck)
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	create(t, f.client(nil), 0)
	f.expectTokenRequests(1)
}

func TestTokens_AreRequestedWhenTheLeaseOfADeadProcessEnds(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.client(nil)
	state, err := NewTokens(f.rdb, f.keys, f.cfg).Acquire(t.Context(), "crashed", 700*time.Millisecond)
	if err != nil || !state.Refresh {
		t.Fatalf("Acquire = %+v, %v; want the lease", state, err)
	}
	begun := time.Now()
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	if took := time.Since(begun); took < 600*time.Millisecond {
		t.Errorf("Ready returned after %v, want to wait for the end of the lease", took)
	}
	f.expectTokenRequests(1)
	// A late result of the dead process is ignored.
	if err := NewTokens(f.rdb, f.keys, f.cfg).Release(t.Context(), "crashed", TokenState{}); err != nil {
		t.Error(err)
	}
	create(t, f.client(nil), 0)
	f.expectTokenRequests(1)
}

func TestClient_EndsTheWaitForAnotherProcessInTime(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.client(nil)
	if _, err := NewTokens(f.rdb, f.keys, f.cfg).Acquire(t.Context(), "another", time.Minute); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if f := c.Ready(ctx); f == nil || f.Kind != fault.TokenUnavailable {
		t.Errorf("Ready: %+v, want an unavailable token", f)
	}
	if f := createFault(c, attemptWithin(20*time.Millisecond)); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("CreateLink: %+v, want an interrupted attempt", f)
	}
	f.expectTokenRequests(0)
}

// TestClose_ReleasesTheLease closes a client during its request for a token. Another process
// then requests one, which it could not before the end of the lease.
func TestClose_ReleasesTheLease(t *testing.T) {
	f := newFleet(t, simulator.Config{Script: simulator.Script{TokenFault: &simulator.Fault{Name: "hang"}}})
	closing := f.client(nil)
	var all sync.WaitGroup
	all.Go(func() {
		if f := closing.Ready(t.Context()); f == nil || f.Kind != fault.Interrupted {
			t.Errorf("fault %+v of the closed client, want an interruption", f)
		}
	})
	fixture.Eventually(t, "a token is requested", func() bool { return f.sim.State().TokenRequests == 1 })
	f.setScript(simulator.Script{})
	closing.Close()
	all.Wait()
	create(t, f.client(nil), 0)
	f.expectTokenRequests(2)
}

func TestTokens_AreSeparateForOldAndNewCredentials(t *testing.T) {
	f := newFleet(t, simulator.Config{ClientSecret: "new"})
	old := f.client(func(c *Config) { c.ClientSecret = "old" })
	current := f.client(func(c *Config) { c.ClientSecret = "new" })
	for range 3 {
		create(t, old, fault.Unauthorized)
		create(t, current, 0)
	}
	f.expectTokenRequests(2)
}
