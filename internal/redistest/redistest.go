// Package redistest runs real redis-server processes for tests, each on a free
// loopback port, by default without persistence.
//
// A test that stops, kills or reconfigures its server starts its own:
//
//	srv := redistest.Start(t)
//	rdb := srv.Client(t)
//
// [StartSentinel] and [StartCluster] start groups of servers that fail over. On Linux,
// all servers end with the test binary, even if it is killed.
//
// Other tests of a package share a server; see package fixture.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

const (
	portAttempts = 5
	startTimeout = time.Minute
	pingInterval = 5 * time.Millisecond
)

// errExited means that the server exited before it was ready, for example because
// another process has taken its port.
var errExited = errors.New("redis-server exited before it was ready")

// Server is one redis-server. It is not safe for concurrent use. Addr and URL never
// change, so clients reconnect after [Server.Restart].
type Server struct {
	// Addr is "127.0.0.1:port".
	Addr string
	// URL contains Addr, in the form of redis.ParseURL.
	URL string

	binary  string
	args    []string
	env     []string // environment; nil: that of this process
	dir     string
	process *os.Process
	exited  chan struct{}
	output  *output
}

// output is the output of a server, for the error of a failed start.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Start runs a server until the end of the test. The arguments of redis-server, such as
// "--appendonly", "yes", override the defaults. The test fails if redis-server is not
// installed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := Launch(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Launch is [Start] without a test. The caller calls [Server.Close].
func Launch(args ...string) (*Server, error) {
	return launch(func(s *Server, port int) error {
		s.args = arguments(s.dir, port, args)
		return nil
	})
}

// StartValkey is [Start] with valkey-server, which takes the same arguments. The test is
// skipped if it is not installed.
func StartValkey(t testing.TB, args ...string) *Server {
	t.Helper()
	binary, err := exec.LookPath("valkey-server")
	if err != nil {
		t.Skip("valkey-server is not installed; make test-redis installs it if Debian has it")
	}
	s, err := launch(func(s *Server, port int) error {
		s.binary, s.args = binary, arguments(s.dir, port, args)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func arguments(dir string, port int, args []string) []string {
	return append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port),
		"--dir", dir, "--save", "", "--appendonly", "no", "--loglevel", "warning",
	}, args...)
}

// launch starts a server on a free port. configure sets its arguments.
func launch(configure func(s *Server, port int) error) (*Server, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("find redis-server: %w; install it with make test-needs", err)
	}
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, err
	}
	for range portAttempts {
		s := &Server{binary: binary, dir: dir}
		var port int
		if port, err = FreePort(); err != nil {
			break
		}
		s.Addr = "127.0.0.1:" + strconv.Itoa(port)
		s.URL = "redis://" + s.Addr + "/0"
		if err = configure(s, port); err != nil {
			break
		}
		if err = s.start(); err == nil {
			return s, nil
		}
		if !errors.Is(err, errExited) {
			break
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

// FreePort returns a port of [Listen] that is free now, for another process. A third one may
// still take it first; then try again.
func FreePort() (int, error) {
	l, err := Listen()
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Listen listens on a loopback port, for a server that may stop listening and listen again. It
// is not an ephemeral port, which an outgoing connection could occupy meanwhile.
func Listen() (net.Listener, error) {
	const lowest, ephemeral = 12_000, 32_768
	for {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(lowest+rand.IntN(ephemeral-lowest)))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
}

func (s *Server) start() error {
	s.output = &output{}
	cmd := exec.Command(s.binary, s.args...)
	cmd.Env = s.env
	cmd.Stdout, cmd.Stderr = s.output, s.output
	exited, err := run(cmd)
	if err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	s.process, s.exited = cmd.Process, exited
	if err := s.awaitReady(); err != nil {
		s.terminate(syscall.SIGKILL)
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(s.output.String()))
	}
	return nil
}

// run starts a process. The channel is closed when it has exited.
func run(cmd *exec.Cmd) (exited chan struct{}, err error) {
	killWithParent(cmd)
	exited = make(chan struct{})
	started := make(chan error)
	go func() {
		defer close(exited)
		runtime.LockOSThread() // the process ends with the thread that started it
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return exited, <-started
}

// awaitReady waits until the server has loaded its data and answers.
func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.exited:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("redis-server was not ready within %s", startTimeout)
		case <-tick.C:
			if s.ready(ctx) {
				return nil
			}
		}
	}
}

// ready reports whether the server answers a PING. It does not use a client, which would
// retry and log the expected errors.
func (s *Server) ready(ctx context.Context) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	// A server with a password (--requirepass) answers with NOAUTH.
	return err == nil && (bytes.HasPrefix(answer[:n], []byte("+PONG")) || bytes.HasPrefix(answer[:n], []byte("-NOAUTH")))
}

// poolSize is more than the failed dials of a test: after as many as its pool has
// connections, go-redis starts a goroutine that redials every second.
const poolSize = 10_000

// Client returns a new client of the server. It is closed at the end of the test.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Stop shuts the server down, which persists its data if persistence is enabled. It does
// nothing if the server is not running.
func (s *Server) Stop() { s.terminate(syscall.SIGTERM) }

// Kill kills the server, like a crash.
func (s *Server) Kill() { s.terminate(syscall.SIGKILL) }

// Restart stops the server if it is running and starts it with the same port, arguments
// and data directory.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.Relaunch(); err != nil {
		t.Fatal(err)
	}
}

// Relaunch is [Server.Restart] without a test.
func (s *Server) Relaunch() error {
	s.Stop()
	return s.start()
}

// Close stops the server and removes its data.
func (s *Server) Close() {
	s.Stop()
	_ = os.RemoveAll(s.dir) // a leftover temporary directory does no harm
}

func (s *Server) terminate(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Signal(sig) // fails if it has already exited
	<-s.exited
	s.process = nil
}

// Account returns a unique account name, so that tests do not share keys.
func Account() string { return "t-" + uuid.NewString()[:13] }
