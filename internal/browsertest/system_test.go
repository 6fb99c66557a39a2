//go:build browser

package browsertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// system is one account with a simulated FaceKi and the processes that serve it.
type system struct {
	*fixture.Account

	FaceKi *simulator.Simulator
	serve  *process
	url    string // of the console
	env    []string
	keys   *apikey.Keyring
	stores *storage.Stores
	reader *diagnosis.Reader
	// mayLog is the text of an error that kyclink serve may log; "" if it may log none.
	mayLog string
}

// newSystem starts kyclink serve for a new account. A test that needs links also starts a
// worker.
func newSystem(t *testing.T, script simulator.Script) *system {
	t.Helper()
	if *pictures == "" {
		t.Parallel()
	}
	return startSystem(t, fixture.NewAccountOn(t, server), simulator.New(simulator.Config{Script: script}), nil)
}

// startSystem starts kyclink serve for an account. FaceKi's answers pass through change, if
// it is given. The processes have the settings beside the system's own.
func startSystem(t *testing.T, account *fixture.Account, sim *simulator.Simulator, change func(http.Handler) http.Handler, settings ...string) *system {
	t.Helper()
	name := account.Keys.Account
	s := &system{Account: account, FaceKi: sim, keys: apikey.NewKeyring(account.Redis, name), stores: storage.Of(account.Redis, name)}
	s.reader = diagnosis.NewReader(account.Redis, s.stores)
	var handler http.Handler = sim
	if change != nil {
		handler = change(handler)
	}
	upstream := httptest.NewServer(handler)
	t.Cleanup(upstream.Close)
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(),
		"KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_ACCOUNT=" + name,
		"KYCLINK_LISTEN=127.0.0.1:0", "KYCLINK_OPS_LISTEN=127.0.0.1:0", "FACEKI_BASE_URL=" + upstream.URL,
	}, settings...)
	s.serve = s.start(nil, "serve")
	s.Eventually("kyclink serve listens", func() bool {
		s.url = s.serve.address()
		return s.url != "" || s.serve.hasEnded()
	})
	if s.url == "" {
		t.Fatalf("kyclink serve has ended:\n%s", s.serve.log.String())
	}
	t.Cleanup(func() {
		for line := range strings.Lines(s.serve.log.String()) {
			if s.mayLog != "" && strings.Contains(line, s.mayLog) {
				continue
			}
			if strings.Contains(line, `"level":"error"`) || strings.Contains(line, "page failed") {
				t.Errorf("kyclink serve logged: %s", line)
			}
		}
	})
	return s
}

// in returns the system for a subtest.
func (s *system) in(t *testing.T) *system {
	sub, account := *s, *s.Account
	account.TB, sub.Account = t, &account
	return &sub
}

// worker starts kyclink worker. Settings follow the system's own.
func (s *system) worker(settings ...string) *process {
	s.Helper()
	return s.start(settings, "worker", "--simulate")
}

// script changes what FaceKi answers from now on.
func (s *system) script(script simulator.Script) {
	s.Helper()
	s.Must(s.FaceKi.SetScript(script))
}

// key returns a new API key, and its ID.
func (s *system) key(name string, scopes ...apikey.Scope) (key, id string) {
	s.Helper()
	key, issued, err := s.keys.Create(s.Context(), name, scopes)
	s.Must(err)
	return key, issued.ID
}

// importRows imports requests as a batch.
func (s *system) importRows(batch string, rows ...tasks.Request) {
	s.Helper()
	s.Must(s.Client.EnqueueAll(s.Context(), tasks.Batch{Name: batch}, tasks.Rows(rows), func(r tasks.Result) { s.Must(r.Err) }))
}

// enqueue accepts one interactive request.
func (s *system) enqueue(r tasks.Request) {
	s.Helper()
	_, err := s.Client.Enqueue(s.Context(), r)
	s.Must(err)
}

// await waits until a request has a status.
func (s *system) await(id string, status tasks.Status) {
	s.Helper()
	s.Eventually(fmt.Sprintf("%s is %s", id, status), func() bool {
		link, err := s.Client.Get(s.Context(), id)
		s.Must(err)
		return link.Status == status
	})
}

// numbered returns requests with the IDs prefix-from to prefix-to.
func numbered(prefix string, from, to int) []tasks.Request {
	var rows []tasks.Request
	for n := from; n <= to; n++ {
		rows = append(rows, tasks.Request{ApplicationID: fmt.Sprintf("%s-%d", prefix, n)})
	}
	return rows
}

// process is a process of kyclink, which is killed at the end of the test.
type process struct {
	cmd  *exec.Cmd
	log  output
	over chan struct{}
}

func (s *system) start(settings []string, args ...string) *process {
	s.Helper()
	p := &process{cmd: exec.Command(program, args...), over: make(chan struct{})}
	p.cmd.Env = append(append([]string{}, s.env...), settings...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	s.Must(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.over)
	}()
	s.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.over
}

// stop lets the process complete its work, and waits for its end.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.over
}

func (p *process) hasEnded() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// address returns the URL at which kyclink serve listens, or "" if it does not yet.
func (p *process) address() string {
	for line := range strings.Lines(p.log.String()) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
			return "http://" + entry.Address
		}
	}
	return ""
}

// output is what a process has written. It can be read while the process runs.
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
