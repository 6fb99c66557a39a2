package ledger

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// slowConn counts what is sent, and is as far away as it is told.
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

// together runs a script in many goroutines, several times in each, and holds
// every one to its own reply.
func together(t *testing.T, c *commits, script *redis.Script) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for j := range 20 {
				want := fmt.Sprintf("%d.%d", i, j)
				if got, err := c.run(t.Context(), script, []string{"k"}, want).Text(); err != nil || got != want {
					t.Errorf("%s has the reply %q, %v", want, got, err)
				}
			}
		})
	}
	all.Wait()
	if c.busy || len(c.waiting) > 0 {
		t.Errorf("%d are left, busy %v", len(c.waiting), c.busy)
	}
}

const echo = "redis.call('INCR', KEYS[1]) return ARGV[1]"

func TestScriptsGoTogether(t *testing.T) {
	rdb, sent := dialing(t, time.Millisecond)
	together(t, &commits{rdb: rdb, farAway: time.Minute}, redis.NewScript(echo)) // Redis does not know the script yet
	if n := sent.Load(); n > 640/4 {
		t.Errorf("640 scripts took %d round trips", n)
	}
	if n := rdb.Get(t.Context(), "k").Val(); n != "640" {
		t.Errorf("640 scripts ran %s times", n)
	}
}

func TestNobodyWaitsForAnothersLongRoundTrip(t *testing.T) {
	rdb, _ := dialing(t, 3*time.Millisecond)
	c := &commits{rdb: rdb, farAway: time.Millisecond}
	script := redis.NewScript(echo)
	c.run(t.Context(), script, []string{"k"}, "1")
	c.busy = true // one is on its way, and never comes back
	reply := make(chan any, 1)
	go func() { reply <- c.run(t.Context(), script, []string{"k"}, "2").Val() }()
	select {
	case got := <-reply:
		if got != "2" {
			t.Errorf("the reply is %v", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
}

// Redis fails for one script, or for all of them: each has its own error.
func TestScriptsThatGoTogetherFailAlone(t *testing.T) {
	rdb, _ := dialing(t, time.Millisecond)
	c := &commits{rdb: rdb, farAway: time.Minute}
	fine, bad := redis.NewScript(echo), redis.NewScript("error('wrong')")
	var all sync.WaitGroup
	var failed atomic.Int64
	for i := range 32 {
		script := fine
		if i%2 == 0 {
			script = bad
		}
		all.Go(func() {
			if err := c.run(t.Context(), script, []string{"k"}, i).Err(); err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() != 16 {
		t.Errorf("%d of 16 failed", failed.Load())
	}
	_ = rdb.Close()
	failed.Store(0)
	for i := range 32 {
		all.Go(func() {
			if err := c.run(t.Context(), fine, []string{"k"}, i).Err(); err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() != 32 {
		t.Errorf("%d of 32 failed", failed.Load())
	}
}
