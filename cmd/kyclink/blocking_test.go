package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/fixture"
)

// waits records the blocking commands of a client by the stream or queue that they read.
type waits struct {
	mu    sync.Mutex
	reads []string
}

func (w *waits) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *waits) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.note(cmd)
		return next(ctx, cmd)
	}
}

func (w *waits) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			w.note(cmd)
		}
		return next(ctx, cmds)
	}
}

func (w *waits) note(cmd redis.Cmder) {
	text := strings.ToLower(fmt.Sprint(cmd.Args()...))
	reads := strings.HasPrefix(cmd.Name(), "xread") && strings.Contains(text, "block")
	if !reads && !strings.HasPrefix(cmd.Name(), "b") {
		return
	}
	what := cmd.Name()
	for _, key := range []string{"}:results", "}:requests", ":interactive}", ":bulk}", ":bundle}", ":callback}"} {
		if strings.Contains(text, key) {
			what += " " + strings.Trim(key, ":}")
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.reads, what) {
		w.reads = append(w.reads, what)
	}
}

func (w *waits) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.reads)
	return strings.Join(w.reads, ", ")
}

// Blocking reads use none of the connections for creating links and accepting requests.
func TestConnections_OfBlockingReadsAreSeparate(t *testing.T) {
	t.Parallel()
	_, setting := upstream(t, `{}`)
	cfg, err := config.Load([]string{
		"KYCLINK_REDIS_URL=" + newRedis(t).URL, setting, "KYCLINK_CALLBACK_HOSTS=shop.example",
		"KYCLINK_CALLBACK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	}, config.Needs{FaceKi: true, Redis: true, API: true, Simulate: true})
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEngine(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	shared, own := &waits{}, &waits{}
	e.rdb.AddHook(shared)
	e.blocking.AddHook(own)
	w, err := e.newWorker(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.runWorker(ctx, w, nil); err != nil {
			t.Errorf("the worker: %v", err)
		}
	})
	running.Go(func() {
		if err := e.serve(ctx, l, nil); err != nil {
			t.Errorf("the API: %v", err)
		}
	})
	defer running.Wait()
	defer stop()
	const want = "blmove bulk, blmove bundle, blmove callback, blmove interactive, xread results, xreadgroup requests, xreadgroup results"
	fixture.Eventually(t, "all of them block", func() bool { return own.all() == want || shared.all() != "" })
	if shared.all() != "" || own.all() != want {
		t.Errorf("%q block on shared connections and %q on their own, want %q", shared.all(), own.all(), want)
	}
}
