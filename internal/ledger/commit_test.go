package ledger

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/redistest"
)

// slowConn is a connection that counts what is sent, and delays it by away.
type slowConn struct {
	net.Conn
	sent *atomic.Int64
	away time.Duration
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.sent.Add(1)
	<-time.After(c.away)
	return c.Conn.Write(p)
}

// dialing returns a client of a new Redis server, whose commands take away to get there,
// and the number of writes to its connections.
func dialing(t *testing.T, away time.Duration) (*redis.Client, *atomic.Int64) {
	t.Helper()
	var sent atomic.Int64
	rdb := redis.NewClient(&redis.Options{
		Addr: redistest.Start(t).Addr, PoolSize: 100, DisableIdentity: true, MaxRetries: -1,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &slowConn{conn, &sent, away}, err
		},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb, &sent
}

// stubs are commit.lua and transitions for tests: "admit" returns its argument, "created"
// fails, unless its argument is "add", and "fault" removes something and then adds.
func stubs() *lua.Package {
	commit, err := luaFiles.ReadFile("commit.lua")
	if err != nil {
		panic(err)
	}
	buffer, err := luaFiles.ReadFile("buffer.lua")
	if err != nil {
		panic(err)
	}
	files := fstest.MapFS{"commit.lua": {Data: commit}, "buffer.lua": {Data: buffer}}
	for name, text := range map[string]string{
		"admit":        "local function admit(text)\n  redis.call('INCR', KEYS[1])\n  return text\nend\n",
		"created":      "local function created(text)\n  if text ~= 'add' then error('an invented error', 0) end\n  redis.call('HINCRBY', 'n', 'created', 1)\n  redis.call('XADD', 's', '*', 'a', 'b')\nend\n",
		"fault":        "local function fault(text)\n  redis.call('DEL', 'x')\n  redis.call('XADD', 's', '*', 'a', 'b')\nend\n",
		"commit_state": "local function store_counts() end\n",
		"gate_state":   "local function store_gate() end\n",
		"clock_step":   "local expected\n",
	} {
		files[name+".lua"] = &fstest.MapFile{Data: []byte(text)}
	}
	return lua.NewPackage("test", files)
}

// echoing returns commits that run the stubs.
func echoing(rdb *redis.Client, farAway time.Duration) *committer {
	unknown := func() int64 { return 0 }
	return &committer{rdb: rdb, tag: "k", maxSharedTrip: farAway, expected: unknown, script: stubs().Script("commit.lua")}
}

// runStub runs one of the stubs.
func runStub(ctx context.Context, c *committer, name string, text any) (any, error) {
	return c.run(ctx, stubs().Function(name), lua.Args{"text": text})
}

// together runs transitions in many goroutines, several in each, and compares the reply
// of each with its argument.
func together(t *testing.T, c *committer) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for j := range 20 {
				want := fmt.Sprintf("%d.%d", i, j)
				if got, err := text(runStub(t.Context(), c, "admit", want)); err != nil || got != want {
					t.Errorf("the reply to %s is %q, %v", want, got, err)
				}
			}
		})
	}
	all.Wait()
	if c.busy || len(c.waiting) > 0 {
		t.Errorf("%d transitions are left, busy: %v", len(c.waiting), c.busy)
	}
}

// atOnce runs n transitions, which wait until all are there, and returns when they have ended.
func atOnce(c *committer, n int, run func(i int)) {
	c.busy = true
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { run(i) })
	}
	for waiting := 0; waiting < n; {
		c.mu.Lock()
		waiting = len(c.waiting)
		c.mu.Unlock()
		runtime.Gosched()
	}
	c.next(time.Now())
	all.Wait()
}

func TestCommit_SendsTransitionsTogether(t *testing.T) {
	rdb, sent := dialing(t, time.Millisecond)
	together(t, echoing(rdb, time.Minute)) // Redis does not know the script yet
	if n := sent.Load(); n > 640/4 {
		t.Errorf("640 transitions took %d round trips", n)
	}
	if n := rdb.Get(t.Context(), "k").Val(); n != "640" {
		t.Errorf("640 transitions ran %s times", n)
	}
}

// Transitions beyond the limit of one round trip wait for the next one.
func TestCommit_LimitsTheTransitionsOfOneRoundTrip(t *testing.T) {
	rdb, sent := dialing(t, time.Millisecond)
	c := echoing(rdb, time.Minute)
	runStub(t.Context(), c, "admit", "x") // so that Redis knows the script
	before := sent.Load()
	atOnce(c, 2*maxTransitions, func(i int) {
		if got, err := text(runStub(t.Context(), c, "admit", i)); err != nil || got != strconv.Itoa(i) {
			t.Errorf("the reply to %d is %q, %v", i, got, err)
		}
	})
	if n := sent.Load() - before; n != 2 {
		t.Errorf("%d transitions took %d round trips", 2*maxTransitions, n)
	}
}

func TestCommit_DoesNotWaitForASlowRoundTrip(t *testing.T) {
	rdb, _ := dialing(t, 3*time.Millisecond)
	c := echoing(rdb, time.Millisecond)
	runStub(t.Context(), c, "admit", "1")
	c.busy = true // a round trip is on its way, and never ends
	reply := make(chan any, 1)
	go func() {
		got, _ := runStub(t.Context(), c, "admit", "2")
		reply <- got
	}()
	select {
	case got := <-reply:
		if got != "2" {
			t.Errorf("the reply is %v", got)
		}
	case <-time.After(time.Minute):
		t.Error("the transition waits for the other one's round trip")
	}
}

// A round trip that was slow for another reason than the distance of Redis, such as a long
// script, does not end the sharing of round trips.
func TestCommit_TellsTheDistanceByTheShortestTrip(t *testing.T) {
	t.Parallel()
	c := &committer{maxSharedTrip: 5 * time.Millisecond}
	took := func(trips ...time.Duration) {
		for _, trip := range trips {
			c.next(time.Now().Add(-trip))
		}
	}
	if c.farAway() {
		t.Error("Redis is far away before the first round trip")
	}
	took(time.Minute)
	if !c.farAway() {
		t.Error("Redis is near although the only round trip was slow")
	}
	took(0, time.Minute, time.Minute)
	if c.farAway() {
		t.Error("Redis is far away although one of the last round trips was quick")
	}
	for range c.trips {
		took(time.Minute)
	}
	if !c.farAway() {
		t.Error("Redis is near although all of the last round trips were slow")
	}
}

// Whether Redis fails one transition or all of a round trip, each returns its own error.
func TestCommit_ReturnsTheErrorOfEachTransition(t *testing.T) {
	rdb, _ := dialing(t, time.Millisecond)
	c := echoing(rdb, time.Minute)
	failures := func(does ...string) int64 {
		var all sync.WaitGroup
		var failed atomic.Int64
		for i := range 32 {
			all.Go(func() {
				if _, err := runStub(t.Context(), c, does[i%len(does)], i); err != nil {
					failed.Add(1)
				}
			})
		}
		all.Wait()
		return failed.Load()
	}
	if n := failures("admit", "created"); n != 16 {
		t.Errorf("%d transitions failed, want 16", n)
	}
	if n := failures("created"); n != 32 {
		t.Errorf("%d transitions failed, want 32", n)
	}
	_ = rdb.Close()
	if n := failures("admit"); n != 32 {
		t.Errorf("%d transitions failed, want 32", n)
	}
}

// A full Redis refuses the first command that adds, and none that follows one that removes.
func TestCommit_WritesNothingWhileMemoryIsFull(t *testing.T) {
	rdb, _ := dialing(t, 0)
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	c := echoing(rdb, time.Minute)
	atOnce(c, 2, func(i int) {
		if _, err := runStub(t.Context(), c, []string{"created", "fault"}[i], "add"); !redis.HasErrorPrefix(err, "OOM") {
			t.Errorf("transition %d: the error is %v, want OOM", i, err)
		}
	})
	if keys := rdb.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("the keys %v were written", keys)
	}
}

// The READONLY error of a replica reaches the client unchanged, which looks for the
// primary then.
func TestCommit_ReturnsREADONLYFromAReplica(t *testing.T) {
	rdb, _ := dialing(t, 0)
	if err := rdb.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	c := echoing(rdb, time.Minute)
	if _, err := runStub(t.Context(), c, "admit", "1"); !redis.HasErrorPrefix(err, "READONLY") {
		t.Errorf("the error is %v", err)
	}
}
