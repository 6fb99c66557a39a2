package deploy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is what the environments start. make build makes it.
const program = "../bin/kyclink"

// patience is far longer than anything here takes, also on a busy machine.
const patience = 3 * time.Minute

// process is a process of kyclink as a deployment describes it.
type process struct {
	args []string
	env  map[string]string
}

// command makes the command of a process. Nothing of the test's environment reaches it, and
// it listens on free ports.
func (p process) command(t *testing.T) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs(program)
	must(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run make test-deploy, which builds it", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, p.args...)
	cmd.Env = []string{"TMPDIR=" + t.TempDir()}
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for _, name := range []string{"KYCLINK_LISTEN", "KYCLINK_OPS_LISTEN"} {
		if value, given := p.env[name]; given {
			if _, _, err := net.SplitHostPort(value); err != nil {
				t.Errorf("%s is %q, which is not an address", name, value)
			}
		}
		cmd.Env = append(cmd.Env, name+"=127.0.0.1:0") // the last one counts
	}
	return cmd
}

// expectReady starts a process, waits until it is ready at path of its health and metrics,
// calls each of then with their address, and stops it. It must end with code 0, and warn of
// nothing but unencrypted connections.
func (p process) expectReady(t *testing.T, path string, then ...func(address string)) {
	t.Helper()
	cmd := p.command(t)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	var log strings.Builder
	lines := bufio.NewScanner(stderr)
	stopping := false
	for lines.Scan() {
		fmt.Fprintln(&log, lines.Text())
		var line struct {
			Level, Msg, Address string
			Ops                 string `json:"ops_address"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if line.Level == "warn" && !strings.Contains(line.Msg, "not encrypted") {
			t.Errorf("%v warns: %s", p.args, lines.Text())
		}
		if line.Ops != "" {
			awaitOK(t, "http://"+line.Ops+path)
			for _, do := range then {
				do(line.Ops)
			}
			must(t, cmd.Process.Signal(syscall.SIGTERM))
			stopping = true
		}
	}
	if err := cmd.Wait(); err != nil || !stopping {
		t.Errorf("%v ends with %v, ready: %v; it logged\n%s", p.args, err, stopping, &log)
	}
}

// awaitOK asks a URL until the answer is 200.
func awaitOK(t *testing.T, url string) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
		r, err := http.Get(url)
		if err != nil {
			continue
		}
		_ = r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return
		}
	}
	t.Errorf("%s is not answered with 200", url)
}

// expectNoRedis starts a process whose Redis does not exist. Its settings are right, so
// that Redis is its only problem.
func (p process) expectNoRedis(t *testing.T) {
	t.Helper()
	out, err := p.command(t).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("Redis")) || !bytes.Contains(out, []byte("refused")) {
		t.Errorf("%v ends with %v, want code 1 because of Redis; it wrote\n%s", p.args, err, out)
	}
}

// startRedis starts a Redis on a free port with more lines of configuration, and returns
// its address. It ends with the test.
func startRedis(t *testing.T, configuration string) string {
	t.Helper()
	for range 5 { // another process may take the port first
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		address := l.Addr().String()
		must(t, l.Close())
		_, port, _ := net.SplitHostPort(address)
		dir := t.TempDir()
		file := filepath.Join(dir, "redis.conf")
		must(t, os.WriteFile(file, []byte(configuration+"\nbind 127.0.0.1\nport "+port+"\ndir "+dir+"\n"), 0o600))
		cmd := exec.Command("redis-server", file)
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		stop := sync.OnceFunc(func() {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
		})
		lines := bufio.NewScanner(stdout)
		var log strings.Builder
		for lines.Scan() {
			fmt.Fprintln(&log, lines.Text())
			if strings.Contains(lines.Text(), "Ready to accept connections") {
				t.Cleanup(stop)
				return address
			}
		}
		stop()
		if !strings.Contains(log.String(), "in use") {
			t.Fatalf("redis-server does not start:\n%s", &log)
		}
	}
	t.Fatal("no port is free for Redis")
	return ""
}
