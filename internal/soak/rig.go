package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
)

const account = "default"

// rig holds the processes and servers of a run, and what is known about its requests.
type rig struct {
	cfg       config
	keys      keyspace.Keys
	server    *redistest.Server
	rdb       *redis.Client
	upstream  *simulator.Simulator
	faceki    string // address of the upstream
	receiver  *httptest.Server
	book      *book
	processes []*process
	watching  sync.WaitGroup
	api, key  string // address of the API, and a key for it
	http      *http.Client
	fail      func(error) // ends the run
	began     time.Time   // of the load
	closers   []func()

	mu      sync.Mutex
	outages []period
}

// period is a part of the run, in the time since the load began.
type period struct{ from, to time.Duration }

// open starts Redis, the servers and the processes. The caller calls close.
func open(ctx context.Context, cfg config, fail func(error)) (_ *rig, err error) {
	r := &rig{cfg: cfg, keys: keyspace.Keys{Account: account}, book: newBook(), fail: fail,
		http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	r.closers = append(r.closers, r.http.CloseIdleConnections)
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	data := filepath.Join(cfg.dir, "redis")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	if r.server, err = redistest.Launch("--dir", data, "--appendonly", "yes"); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.server.Close)
	r.rdb = redis.NewClient(&redis.Options{Addr: r.server.Addr})
	r.closers = append(r.closers, func() { _ = r.rdb.Close() })
	r.receiver = openReceiver(r.book)
	r.closers = append(r.closers, r.receiver.Close)
	r.upstream = simulator.New(simulator.Config{Script: working()})
	base, stop, err := r.upstream.Start()
	if err != nil {
		return nil, fmt.Errorf("start the simulator: %w", err)
	}
	r.faceki = base
	r.closers = append(r.closers, stop)
	r.closers = append(r.closers, func() { r.stopProcesses() })
	return r, r.startProcesses(ctx)
}

// working is the behavior of FaceKi outside of outages.
func working() simulator.Script {
	return simulator.Script{Latency: simulator.Duration(40 * time.Millisecond), Jitter: simulator.Duration(20 * time.Millisecond)}
}

// environment returns the variables of all processes and commands. Workers may call three
// times as often as links are requested, so that they catch up after an outage.
func (r *rig) environment() []string {
	return []string{
		"TMPDIR=" + r.cfg.dir, "KYCLINK_REDIS_URL=" + r.server.URL,
		"FACEKI_BASE_URL=" + r.faceki, fmt.Sprintf("FACEKI_RATE=%d/s", int(3*r.cfg.rate)+1), "FACEKI_BURST=10", "FACEKI_TIMEOUT=5s",
		"KYCLINK_RETENTION=" + r.cfg.retention().String(), "KYCLINK_RESULTS_AGE=" + r.cfg.retention().String(),
		"KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + callbackSecret,
		"KYCLINK_LOG_FORMAT=json", "KYCLINK_LOG_LEVEL=warn",
	}
}

func (r *rig) startProcesses(ctx context.Context) error {
	key, err := r.command(ctx, "keys", "create", "--scope", "enqueue,read", "--name", "soak")
	if err != nil {
		return err
	}
	r.key = strings.TrimSpace(key)
	for i := range r.cfg.workers {
		if err := r.start(ctx, fmt.Sprint("worker ", i+1), nil, "worker", "--simulate"); err != nil {
			return err
		}
	}
	port, err := redistest.FreePort()
	if err != nil {
		return err
	}
	r.api = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return r.start(ctx, "serve", []string{"KYCLINK_LISTEN=" + r.api}, "serve")
}

// command runs a short kyclink command, and returns its output.
func (r *rig) command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return child.Output(ctx, r.environment(), r.cfg.kyclink, args...)
}

// stopProcesses stops all processes at once. It returns what was unexpected.
func (r *rig) stopProcesses() []string {
	found := make([]string, len(r.processes))
	var stopping sync.WaitGroup
	for i, p := range r.processes {
		stopping.Go(func() { found[i] = p.stop() })
	}
	stopping.Wait()
	r.watching.Wait()
	return slices.DeleteFunc(found, func(text string) bool { return text == "" })
}

func (r *rig) close() {
	for _, end := range slices.Backward(r.closers) {
		end()
	}
}

func (r *rig) note(format string, args ...any) {
	fmt.Fprintf(r.cfg.notes, "%s "+format+"\n", append([]any{time.Now().UTC().Format(time.TimeOnly)}, args...)...)
}

// describe prints what is run, and on what.
func (r *rig) describe(ctx context.Context, out io.Writer) error {
	version, err := r.command(ctx, "version")
	if err != nil {
		return err
	}
	every, length := r.cfg.outages()
	_, err = fmt.Fprintf(out, "%s\n%v at %g requests/s, %d workers and serve, retention %v, an outage of %v every %v, a sample every %v\n",
		strings.Join(strings.Fields(version), " "), r.cfg.duration, r.cfg.rate, r.cfg.workers, r.cfg.retention(), length, every, r.cfg.interval())
	return err
}

// during reports whether a time is within an outage or shortly after it.
func (r *rig) during(at time.Time) bool {
	const recovery = 15 * time.Second
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.outages, func(o period) bool {
		return at.After(r.began.Add(o.from)) && at.Before(r.began.Add(o.to+recovery))
	})
}
