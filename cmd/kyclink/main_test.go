package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// binary is the path of kyclink, built as for a release except that failed callbacks are
// retried 400 times sooner.
var binary string

// sharedRedis are the servers of [newRedis], and databases counts what newRedis
// returned. A single server would be short of processor time where the machine is busy.
var (
	sharedRedis [4]*redistest.Server
	databases   atomic.Int64
)

// mostDatabases is how many databases a server has: enough for every test of the package,
// repeated a hundred times.
const mostDatabases = 4_000

func TestMain(m *testing.M) {
	cobra.EnableCommandSorting = false // as in main
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	fixture.RaiseParallelism(8) // most tests wait, for a dead worker to be noticed or for a retry
	if *manDir != "" {
		return 0, writeManPages(*manDir) // without the program and Redis
	}
	if binary, err = fixture.Program(fixture.Build{CallbackPace: 400}); err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(binary)) }()
	for i := range sharedRedis {
		if sharedRedis[i], err = redistest.Launch("--databases", strconv.Itoa(mostDatabases)); err != nil {
			return 0, err
		}
		defer sharedRedis[i].Close()
	}
	return m.Run(), nil
}

// database is an empty database of a Redis server that the tests share. A test that
// stops, empties, configures or measures its server starts one with package redistest.
type database struct {
	URL string
}

// newRedis returns a database that no other test uses.
func newRedis(t testing.TB) *database {
	t.Helper()
	n := int(databases.Add(1))
	server, number := sharedRedis[n%len(sharedRedis)], n/len(sharedRedis)
	if number >= mostDatabases {
		t.Fatal("all databases are in use")
	}
	d := &database{URL: fmt.Sprintf("redis://%s/%d", server.Addr, number)}
	rdb := d.Client(t)
	t.Cleanup(func() { _ = rdb.FlushDBAsync(context.Background()).Err() })
	return d
}

// Client returns a client of the database, which is closed at the end of the test.
func (d *database) Client(t testing.TB) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(d.URL)
	fixture.Must(t, err)
	o.ContextTimeoutEnabled, o.ClientName = true, ownClients
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// ownClients is the name of the connections of the tests themselves.
const ownClients = "test"

// disconnected waits until only the test itself is connected to its database: Redis has
// carried out then what a killed process had sent.
func disconnected(t testing.TB, rdb *redis.Client) {
	t.Helper()
	database := fmt.Sprintf(" db=%d ", rdb.Options().DB)
	fixture.Eventually(t, "only the test is connected to its database", func() bool {
		for client := range strings.Lines(rdb.ClientList(t.Context()).Val()) {
			if strings.Contains(client, database) && !strings.Contains(client, " name="+ownClients+" ") {
				return false
			}
		}
		return true
	})
}

// process is a process that a test started. It is killed at the end of the test.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr capture
	over           chan struct{}
}

// start starts kyclink with only these settings.
func start(t testing.TB, settings []string, args ...string) *process {
	t.Helper()
	return startBinary(t, binary, settings, args...)
}

func startBinary(t testing.TB, path string, settings []string, args ...string) *process {
	t.Helper()
	p := prepare(t, path, settings, args...)
	p.begin()
	return p
}

// prepare returns a process that has not been started.
func prepare(t testing.TB, path string, settings []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), over: make(chan struct{})}
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(),
		"FACEKI_RATE=2000/s", "FACEKI_BURST=200", // tests of the rate limit set their own
		"KYCLINK_OPS_LISTEN=127.0.0.1:0",
	}, settings...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

func (p *process) begin() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.over)
	}()
	p.t.Cleanup(p.kill)
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.over
}

// exit waits for the end of the process and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(5 * time.Minute):
		p.t.Fatalf("%v does not end; it printed:\n%s", p.cmd.Args, p.stderr.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// kyclink runs a command to its end.
func kyclink(t testing.TB, settings []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, settings, args...)
	code = p.exit()
	return code, p.stdout.String(), p.stderr.String()
}

// upstream starts a simulator for one test, and returns it and the setting with its
// address.
func upstream(t testing.TB, script string) (*simulator.Simulator, string) {
	t.Helper()
	parsed, err := simulator.ParseScript([]byte(script))
	fixture.Must(t, err)
	sim, url := fixture.Upstream(t, simulator.Config{Script: parsed})
	return sim, "FACEKI_BASE_URL=" + url
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// capture is the output of a process. It can be read while the process runs.
type capture struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}
