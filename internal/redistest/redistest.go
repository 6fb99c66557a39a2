// Package redistest runs real redis-server processes for tests, each on a free
// loopback port, without persistence unless asked for.
//
// A test that stops, kills or reconfigures its server starts its own:
//
//	srv := redistest.Start(t)
//	rdb := srv.Client(t)
//
// [StartSentinel] and [StartCluster] start several that fail over. On Linux all
// end with the test binary, even where that is killed.
//
// The other tests of a package share one: see package fixture.
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
	portTries    = 5
	readyWithin  = time.Minute
	pingInterval = 5 * time.Millisecond
)

// errExited says that the server ended before it answered, as it does where
// another process took the port in between.
var errExited = errors.New("redis-server ended before it was ready")

// Server is one redis-server. Its methods are for one goroutine at a time; Addr
// and URL never change, so that clients find it again after [Server.Restart].
type Server struct {
	// Addr is "127.0.0.1:port".
	Addr string
	// URL is Addr as go-redis' ParseURL reads it.
	URL string

	binary  string
	args    []string
	env     []string // its environment; nil: ours
	dir     string
	process *os.Process
	exited  chan struct{}
	output  *output
}

// output keeps what the server wrote, for the message of a failed start.
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

// Start runs a server until the end of the test. The arguments are those of
// redis-server and win over the defaults, such as "--appendonly", "yes". Where
// redis-server is not installed the test fails: skipping would prove nothing.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := Launch(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Launch is [Start] without a test: whoever calls it calls [Server.Close].
func Launch(args ...string) (*Server, error) {
	return launch(func(s *Server, port int) error {
		s.args = arguments(s.dir, port, args)
		return nil
	})
}

func arguments(dir string, port int, args []string) []string {
	return append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port),
		"--dir", dir, "--save", "", "--appendonly", "no", "--loglevel", "warning",
	}, args...)
}

// launch starts a server on a free port; set chooses its arguments.
func launch(set func(s *Server, port int) error) (*Server, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server cannot be found (%w): run make test, which installs redis-server", err)
	}
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, err
	}
	for range portTries {
		s := &Server{binary: binary, dir: dir}
		port, taken := FreePort()
		if err = taken; err != nil {
			break
		}
		s.Addr = "127.0.0.1:" + strconv.Itoa(port)
		s.URL = "redis://" + s.Addr + "/0"
		if err = set(s, port); err != nil {
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

// FreePort picks a loopback port that is free now, for a server that may stop
// listening and listen there again. It is none of those from which a system takes
// the near ends of its connections: one of these could hold it in between. Another
// process may still take it before it is used; then try again.
func FreePort() (int, error) {
	const lowest, beyond = 12_000, 32_768
	for {
		port := lowest + rand.IntN(beyond-lowest)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		switch {
		case err == nil:
			return port, l.Close()
		case !errors.Is(err, syscall.EADDRINUSE):
			return 0, err
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
	if err := s.ready(); err != nil {
		s.end(syscall.SIGKILL)
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(s.output.String()))
	}
	return nil
}

// run starts a process and tells when it has ended, however it did.
func run(cmd *exec.Cmd) (exited chan struct{}, err error) {
	dieWithUs(cmd)
	exited = make(chan struct{})
	started := make(chan error)
	go func() {
		defer close(exited)
		runtime.LockOSThread() // it dies with the thread that started it
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return exited, <-started
}

// ready asks until the server answers that it has loaded its data.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.exited:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("redis-server was not ready within %s", readyWithin)
		case <-tick.C:
			if s.answers(ctx) {
				return nil
			}
		}
	}
}

// answers speaks the protocol itself: a client would retry and log each of the
// refusals that are expected here.
func (s *Server) answers(ctx context.Context) bool {
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
	// With a password (--requirepass) the refusal is a sign of life, too.
	return err == nil && (bytes.HasPrefix(answer[:n], []byte("+PONG")) || bytes.HasPrefix(answer[:n], []byte("-NOAUTH")))
}

// Client is a new client of the server, closed at the end of the test.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Stop ends the server as an operator does; what it was told to persist is on
// disk. It does nothing where the server does not run.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once, as a crash does.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Restart starts a stopped server again, or stops and starts a running one,
// with the same port, arguments and data directory.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.Again(); err != nil {
		t.Fatal(err)
	}
}

// Again is [Server.Restart] without a test.
func (s *Server) Again() error {
	s.Stop()
	return s.start()
}

// Close stops the server for good and removes its data.
func (s *Server) Close() {
	s.Stop()
	_ = os.RemoveAll(s.dir) // a temporary folder that stays is no reason to fail a test
}

func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Signal(sig) // an error says that it has ended by itself
	<-s.exited
	s.process = nil
}

// Account returns a new account name, so that no other test touches its keys.
func Account() string { return "t-" + uuid.NewString()[:13] }
