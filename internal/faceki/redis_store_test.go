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

// fleet is what processes of one account share: a Redis and a FaceKi, both on
// real time.
type fleet struct {
	t    *testing.T
	srv  *redistest.Server
	rdb  *redis.Client
	sim  *simulator.Simulator
	cfg  Config
	keys keyspace.Keys

	processes int
}

func newFleet(t *testing.T, cfg simulator.Config) *fleet {
	t.Helper()
	t.Parallel() // they wait for real time
	f := &fleet{t: t, srv: redistest.Start(t), sim: simulator.New(cfg), cfg: config(), keys: keyspace.Keys{Account: "shop"}}
	f.rdb = f.client()
	url, stop, err := f.sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	f.cfg.BaseURL, f.cfg.Simulated, f.cfg.Timeout = url, true, 5*time.Second
	return f
}

// client gives up on a Redis that is away sooner than those of redistest. Its pool is
// large whatever the machine: go-redis dials once a second only when it failed as
// often as the pool is large, which is 10 with one processor.
func (f *fleet) client() *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: f.srv.Addr, ContextTimeoutEnabled: true, MaxRetries: 1, DialerRetries: 1, PoolSize: 100})
	f.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// process is a client as another process would have it, whose clock is off.
func (f *fleet) process(change func(*Config)) *Client {
	cfg := f.cfg
	if change != nil {
		change(&cfg)
	}
	f.processes++
	off := time.Duration(f.processes%3-1) * 10 * time.Minute
	c := New(cfg, func() time.Time { return time.Now().Add(off) }, NewTokens(f.client(), f.keys, cfg))
	f.t.Cleanup(c.Close)
	return c
}

func (f *fleet) script(s simulator.Script) {
	f.t.Helper()
	if err := f.sim.SetScript(s); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) asked(want int) {
	f.t.Helper()
	if n := f.sim.State().TokenRequests; n != want {
		f.t.Errorf("%d token requests, want %d", n, want)
	}
}

// many are processes that all do the same at once.
func (f *fleet) many(n int) []*Client {
	cs := make([]*Client, n)
	for i := range cs {
		cs[i] = f.process(nil)
	}
	return cs
}

func together(cs []*Client, do func(*Client)) {
	var all sync.WaitGroup
	for _, c := range cs {
		all.Go(func() { do(c) })
	}
	all.Wait()
}

func TestFiftyProcessesStartAtOnce(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	together(f.many(50), func(c *Client) {
		if f := c.Ready(t.Context()); f != nil {
			t.Error(f)
		}
		if f := created(c, attemptFor("A", request.Content{})); f != nil {
			t.Error(f)
		}
	})
	f.asked(1)
}

// The token lasts ten seconds, less the skew: nine. A call that takes longer than the
// skew is refused, as it should be, so that a busy machine needs a long one.
func TestTokenExpiresUnderLoad(t *testing.T) {
	f := newFleet(t, simulator.Config{TokenLifetime: 10 * time.Second})
	begun := time.Now()
	together(f.many(8), func(c *Client) {
		for ; time.Since(begun) < 11*time.Second; <-time.After(5 * time.Millisecond) {
			if f := created(c, attemptFor("A", request.Content{})); f != nil {
				t.Error(f)
			}
		}
	})
	f.asked(2)
	if s := f.sim.State(); s.Faults["unauthorized"] != 0 {
		t.Errorf("%+v", s)
	}
}

// A minute is 2 s here.
func TestEveryTokenRefusedForAMinute(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	cs := f.many(8)
	for _, c := range cs {
		c.tokens.spacing = time.Second
	}
	f.script(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_401"}}}})
	begun := time.Now()
	together(cs, func(c *Client) {
		for time.Since(begun) < 2*time.Second {
			c.Ready(t.Context())
			if f := created(c, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Unauthorized {
				t.Errorf("%+v", f)
			}
		}
	})
	if n := f.sim.State().TokenRequests; n < 2 || n > 3 {
		t.Errorf("%d token requests", n)
	}
}

// A token that is revoked right after it was made is replaced once for all, when that
// is allowed, again and again.
func TestATokenThatIsRevokedSoonIsReplacedForAll(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	cs := f.many(5)
	for _, c := range cs {
		c.tokens.spacing = time.Second
		create(t, c, 0)
	}
	for n := 2; n <= 3; n++ {
		f.sim.Revoke()
		together(cs, func(c *Client) {
			if f := create(t, c, fault.Unauthorized); !f.Renewed {
				t.Error("not to be renewed")
			}
			if f := c.Ready(t.Context()); f != nil {
				t.Error(f)
			}
			create(t, c, 0)
		})
		f.asked(n)
	}
}

func TestRefusedTokenIsReplacedForAll(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	cs := f.many(5)
	for _, c := range cs {
		c.tokens.spacing = 100 * time.Millisecond
		create(t, c, 0)
	}
	<-time.After(cs[0].tokens.spacing)
	f.sim.Revoke()
	together(cs, func(c *Client) {
		if f := create(t, c, fault.Unauthorized); !f.Renewed {
			t.Error("not renewed")
		}
		create(t, c, 0)
	})
	f.asked(2)

	// Who looks at Redis within a second does not even try the old one.
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
	f.asked(3)
	if n := f.sim.State().Faults["unauthorized"]; n != refused {
		t.Errorf("%d calls with a token that was known to be refused", n-refused)
	}
}

func TestRefusedCredentialsAreTriedOnceByTheFleet(t *testing.T) {
	f := newFleet(t, simulator.Config{ClientSecret: "another"})
	cs := f.many(10)
	for _, c := range cs {
		c.tokens.spacing = 500 * time.Millisecond
	}
	refuse := func(c *Client) {
		if f := c.Ready(t.Context()); f == nil || f.Kind != fault.Unauthorized || f.Detail != `access token: HTTP 401: "invalid client credentials"` {
			t.Errorf("%+v", f)
		}
	}
	together(cs, refuse)
	together(cs, refuse)
	f.asked(1)
	<-time.After(cs[0].tokens.spacing)
	together(cs, refuse)
	f.asked(2)
}

func TestFaultsAreSharedAsTheyAre(t *testing.T) {
	f := newFleet(t, simulator.Config{Script: simulator.Script{
		TokenFault: &simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(time.Minute)}}})
	cs := f.many(2)
	create(t, cs[0], fault.TooMany)
	if f := create(t, cs[1], fault.TooMany); f.RetryAfter < 50*time.Second || f.RetryAfter > time.Minute {
		t.Errorf("%+v", f)
	}
	f.asked(1)
	for _, kind := range storedKinds() {
		given := &fault.Fault{Kind: kind, Detail: "HTTP 500, code 1", RetryAfter: 5 * time.Second}
		if got := decodeFault(string(encodeFault(given)), 2*time.Second); got.RetryAfter != 3*time.Second || got.Kind != kind || got.Detail != given.Detail {
			t.Errorf("%+v", got)
		}
	}
	for _, text := range []string{"", "x", `{"kind":"of a later version"}`} {
		if got := decodeFault(text, time.Hour); got.Kind != fault.TokenUnavailable || got.RetryAfter != 0 {
			t.Errorf("%+v", got)
		}
	}
}

func TestUnreachableServerIsFoundOutByOne(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	var tried atomic.Int32
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			tried.Add(1)
		}
	}
	s.StartTLS() // with a certificate that nobody trusts
	defer s.Close()
	f.cfg.BaseURL = s.URL
	together(f.many(10), func(c *Client) {
		if f := c.Ready(t.Context()); f == nil || f.Kind != fault.NotSent || !strings.Contains(f.Detail, "which this machine does not trust") {
			t.Errorf("%+v", f)
		}
	})
	if n := tried.Load(); n != 1 {
		t.Errorf("tried %d times", n)
	}
}

func TestRedisAway(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	held := f.process(nil)
	create(t, held, 0)
	f.srv.Stop()
	c := f.process(nil)
	for range 3 {
		if f := c.Ready(t.Context()); f == nil || f.Kind != fault.TokenUnavailable {
			t.Errorf("%+v", f)
		}
		create(t, c, fault.TokenUnavailable)
	}
	if s := f.sim.State(); s.TokenRequests != 1 || s.LinkCalls != 1 {
		t.Errorf("%+v", s)
	}
	// What was granted before can still be sent.
	held.tokens.checkedAt = held.now().Add(-recheck)
	if f := held.Ready(t.Context()); f != nil {
		t.Errorf("%+v", f)
	}
	create(t, held, 0)
	f.srv.Restart(t)
	create(t, c, 0) // Redis has forgotten everything
	f.asked(2)
}

// The one who asks gets a token while Redis goes: it tells the others later.
func TestTokenThatRedisDidNotLearnOf(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.process(nil)
	ask := c.tokens.ask
	c.tokens.ask = func(ctx context.Context) (Secret, time.Duration, *fault.Fault) {
		defer f.srv.Stop()
		return ask(ctx)
	}
	create(t, c, 0)
	f.srv.Restart(t)
	c.tokens.checkedAt = c.now().Add(-recheck)
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	create(t, f.process(nil), 0)
	f.asked(1)
}

func TestCrashedHolderBlocksNotLong(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.process(nil)
	claim, err := NewTokens(f.rdb, f.keys, f.cfg).Acquire(t.Context(), "crashed", 700*time.Millisecond)
	if err != nil || !claim.Refresh {
		t.Fatal(claim, err)
	}
	begun := time.Now()
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	if took := time.Since(begun); took < 600*time.Millisecond {
		t.Errorf("after %v", took)
	}
	f.asked(1)
	// Its answer comes too late, and changes nothing.
	if err := NewTokens(f.rdb, f.keys, f.cfg).Release(t.Context(), "crashed", TokenState{}); err != nil {
		t.Error(err)
	}
	create(t, f.process(nil), 0)
	f.asked(1)
}

func TestWaitForAnotherEndsInTime(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.process(nil)
	if _, err := NewTokens(f.rdb, f.keys, f.cfg).Acquire(t.Context(), "another", time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if f := c.Ready(ctx); f == nil || f.Kind != fault.TokenUnavailable {
		t.Errorf("%+v", f)
	}
	if f := created(c, within(20*time.Millisecond)); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("%+v", f)
	}
	f.asked(0)
}

// A process that stops while it asks lets the others ask at once.
func TestStoppedHolderHandsItsTurnOn(t *testing.T) {
	f := newFleet(t, simulator.Config{Script: simulator.Script{TokenFault: &simulator.Fault{Name: "hang"}}})
	leaving := f.process(nil)
	var all sync.WaitGroup
	all.Go(func() {
		if f := leaving.Ready(t.Context()); f == nil || f.Kind != fault.Interrupted {
			t.Errorf("%+v", f)
		}
	})
	fixture.Eventually(t, "a token is requested", func() bool { return f.sim.State().TokenRequests == 1 })
	f.script(simulator.Script{})
	leaving.Close()
	all.Wait()
	begun := time.Now()
	create(t, f.process(nil), 0)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("after %v", took)
	}
	f.asked(2)
}

func TestOldAndNewCredentialsSideBySide(t *testing.T) {
	f := newFleet(t, simulator.Config{ClientSecret: "new"})
	old := f.process(func(c *Config) { c.ClientSecret = "old" })
	fresh := f.process(func(c *Config) { c.ClientSecret = "new" })
	for range 3 {
		create(t, old, fault.Unauthorized)
		create(t, fresh, 0)
	}
	f.asked(2)
}
