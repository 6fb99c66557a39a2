package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// apiServer is a `kyclink serve` behind a proxy. It is restarted whenever it ends.
type apiServer struct {
	dir, key string
	settings []string
	proxy    *proxy
	http     *http.Client

	mu       sync.Mutex
	program  string // of the processes that are started from now on
	process  *process
	started  int
	closing  bool
	problems []string
	watching sync.WaitGroup
}

func openAPIServer(ctx context.Context, program, dir string, settings []string) (*apiServer, error) {
	port, err := redistest.FreePort() // every process listens on it
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	f := &apiServer{program: program, dir: dir, settings: append([]string{"KYCLINK_LISTEN=" + addr}, settings...),
		http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	key, err := child.Output(ctx, f.settings, program, "keys", "create", "--scope", "enqueue,read", "--name", "chaos")
	if err != nil {
		return nil, err
	}
	f.key = strings.TrimSpace(key)
	if f.proxy, err = newProxy("serve", addr); err != nil {
		return nil, err
	}
	return f, f.start()
}

func (f *apiServer) start() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return nil
	}
	f.started++
	p, err := launch(f.program, f.dir, fmt.Sprintf("serve-%03d", f.started), []string{"serve"}, f.settings, "")
	if err != nil {
		return err
	}
	f.process = p
	f.watching.Go(func() { f.watch(p) })
	return nil
}

func (f *apiServer) watch(p *process) {
	<-p.Exited
	f.addProblem(p.problem())
	time.Sleep(restartDelay) //nolint:forbidigo // as a process supervisor does
	if err := f.start(); err != nil {
		f.addProblem(err.Error())
	}
}

func (f *apiServer) addProblem(problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if problem != "" {
		f.problems = append(f.problems, problem)
	}
}

func (f *apiServer) signal(s syscall.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.process.Signal(s)
}

// upgrade restarts the server with another program.
func (f *apiServer) upgrade(program string) {
	f.mu.Lock()
	f.program = program
	f.mu.Unlock()
	f.signal(syscall.SIGTERM)
}

// close stops the server gracefully. It returns the problems with all processes that have
// ended.
func (f *apiServer) close() []string {
	f.mu.Lock()
	f.closing = true
	p := f.process
	f.mu.Unlock()
	if p != nil {
		f.addProblem(p.stop(stopTimeout))
	}
	f.watching.Wait()
	f.proxy.close()
	f.http.CloseIdleConnections()
	return f.problems
}

func (f *apiServer) kinds() []kind {
	const group, net = "serve", "serve-net"
	sec := time.Second
	blocked := func(begin func() error) injectFunc {
		return func(ctx context.Context, o injection) error {
			if err := begin(); err != nil {
				return err
			}
			o.wait()
			return f.proxy.reset(ctx)
		}
	}
	return []kind{
		{"serve-kill", group, moment, moment, func(context.Context, injection) error { f.signal(syscall.SIGKILL); return nil }},
		{"serve-term", group, moment, moment, func(context.Context, injection) error { f.signal(syscall.SIGTERM); return nil }},
		{"serve-stop", group, 2 * sec, 4 * sec, func(_ context.Context, o injection) error {
			f.mu.Lock()
			p := f.process
			f.mu.Unlock()
			p.Signal(syscall.SIGSTOP)
			o.wait()
			p.Signal(syscall.SIGCONT)
			return nil
		}},
		{"serve-cut", net, moment, moment, func(ctx context.Context, _ injection) error { return f.proxy.disconnect(ctx) }},
		{"serve-slow", net, 2 * sec, 4 * sec, blocked(func() error { return f.proxy.addLatency(400) })},
		{"serve-hole", net, 2 * sec, 4 * sec, blocked(f.proxy.blackhole)},
	}
}

// restore ends all faults.
func (f *apiServer) restore(ctx context.Context) error {
	f.signal(syscall.SIGCONT)
	return f.proxy.reset(ctx)
}

// post sends one request for a link. It returns the status of the answer, or 0 if there is
// none.
func (f *apiServer) post(ctx context.Context, req tasks.Request) (status int, link tasks.Link) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return 0, link
	}
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.proxy.addr()+"/v1/links", bytes.NewReader(body))
	if err != nil {
		return 0, link
	}
	call.Header.Set("Authorization", "Bearer "+f.key)
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Prefer", "wait=1")
	answer, err := f.http.Do(call)
	if err != nil {
		return 0, link
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode < 300 && json.Unmarshal(text, &link) != nil {
		return 0, link
	}
	return answer.StatusCode, link
}

// call requests links through the API, with up to three attempts for each.
func (f *apiServer) call(ctx context.Context, p *producer) {
	p.each(ctx, p.pace, func(n int) {
		req := p.generator.request(fmt.Sprintf("%s%s%d", p.name, kindOf(n), n))
		p.journal.addRequest(req.ApplicationID, 1)
		for range 3 {
			switch status, link := f.post(ctx, req); {
			case status >= 200 && status < 300:
				p.journal.acknowledge(link.ApplicationID, link.Generation)
				p.journal.addLink(link)
				return
			case status == http.StatusUnprocessableEntity && !req.NotAfter.IsZero():
				return // not_after has passed
			case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
				p.journal.addProblem("the API answered %d for %s", status, req.ApplicationID)
				return
			}
		}
	})
}

// apiLink is an answer of the API with a link.
type apiLink struct {
	tasks.Link
	at time.Time
}

// addLink records an answer of the API that contains a link.
func (j *journal) addLink(link tasks.Link) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if link.URL != "" {
		j.apiLinks = append(j.apiLinks, apiLink{link, time.Now()})
	}
}

// checkAPILinks checks that every link in an answer of the API is recorded.
func (e evidence) checkAPILinks() (found []string) {
	for _, link := range e.apiLinks {
		known := false
		for _, r := range e.records[link.ApplicationID] {
			known = known || r.Generation == link.Generation && r.Outcome.URL == link.URL
		}
		if !known && !e.mayBeLost(link.at) {
			found = append(found, fmt.Sprintf("the API returned a link for %s, generation %d, that is not recorded", link.ApplicationID, link.Generation))
		}
	}
	return found
}

// mayBeLost reports whether Redis may have lost writes of that time.
func (e evidence) mayBeLost(at time.Time) bool { return e.losesWrites || e.disruptions.lostAt(at) }
