package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// front is a `kyclink serve` that is started again whenever it ends, behind a road.
type front struct {
	program, dir, key string
	settings          []string
	road              *road
	http              *http.Client

	mu         sync.Mutex
	process    *process
	started    int
	closing    bool
	complaints []string
	watching   sync.WaitGroup
}

func openFront(ctx context.Context, program, dir string, settings []string) (*front, error) {
	port, err := redistest.FreePort() // it listens there again
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	f := &front{program: program, dir: dir, settings: append([]string{"KYCLINK_LISTEN=" + addr}, settings...),
		http: &http.Client{Timeout: askWithin, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	if f.key, err = f.newKey(ctx); err != nil {
		return nil, err
	}
	if f.road, err = build("serve", addr); err != nil {
		return nil, err
	}
	return f, f.start()
}

func (f *front) newKey(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, f.program, "keys", "create", "--scope", "enqueue,read", "--name", "chaos") //nolint:gosec // the program under test
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, f.settings...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	key, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("create an API key: %w: %s", err, &complaint)
	}
	return strings.TrimSpace(string(key)), nil
}

func (f *front) start() error {
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

func (f *front) watch(p *process) {
	<-p.over
	f.note(p.complaint())
	time.Sleep(restartAfter) //nolint:forbidigo // as whoever runs it does
	if err := f.start(); err != nil {
		f.note(err.Error())
	}
}

func (f *front) note(complaint string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if complaint != "" {
		f.complaints = append(f.complaints, complaint)
	}
}

func (f *front) signal(s syscall.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.process.signal(s)
}

// close stops it softly and gives what was wrong with the end of any.
func (f *front) close() []string {
	f.mu.Lock()
	f.closing = true
	p := f.process
	f.mu.Unlock()
	if p != nil {
		f.note(p.stop(stopPatience))
	}
	f.watching.Wait()
	f.road.close()
	f.http.CloseIdleConnections()
	return f.complaints
}

func (f *front) kinds() []kind {
	const group, net = "serve", "serve-net"
	sec := time.Second
	blocked := func(begin func() error) inject {
		return func(ctx context.Context, o occasion) error {
			if err := begin(); err != nil {
				return err
			}
			o.wait()
			return f.road.clear(ctx)
		}
	}
	return []kind{
		{"serve-kill", group, aBit, aBit, func(context.Context, occasion) error { f.signal(syscall.SIGKILL); return nil }},
		{"serve-term", group, aBit, aBit, func(context.Context, occasion) error { f.signal(syscall.SIGTERM); return nil }},
		{"serve-stop", group, 2 * sec, 4 * sec, func(_ context.Context, o occasion) error {
			f.mu.Lock()
			p := f.process
			f.mu.Unlock()
			p.signal(syscall.SIGSTOP)
			o.wait()
			p.signal(syscall.SIGCONT)
			return nil
		}},
		{"serve-cut", net, aBit, aBit, func(ctx context.Context, _ occasion) error { return f.road.cut(ctx) }},
		{"serve-slow", net, 2 * sec, 4 * sec, blocked(func() error { return f.road.slow(400) })},
		{"serve-hole", net, 2 * sec, 4 * sec, blocked(f.road.swallow)},
	}
}

// heal lets it go on.
func (f *front) heal(ctx context.Context) error {
	f.signal(syscall.SIGCONT)
	return f.road.clear(ctx)
}

// post asks for a link once, and gives the status of the answer; 0 for none.
func (f *front) post(ctx context.Context, req tasks.Request) (status int, link tasks.Link) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return 0, link
	}
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.road.addr()+"/v1/links", bytes.NewReader(body))
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

// call asks for one link after the other through the API, each until it was answered,
// or three times.
func (f *front) call(ctx context.Context, p *producer) {
	p.each(ctx, p.pace, func(n int) {
		req := p.people.request(fmt.Sprintf("%s%s%d", p.name, kindOf(n), n))
		p.book.ask(req.ApplicationID, 1)
		for range 3 {
			switch status, link := f.post(ctx, req); {
			case status >= 200 && status < 300:
				p.book.acknowledge(link.ApplicationID, link.Generation)
				p.book.promise(link)
				return
			case status == http.StatusUnprocessableEntity && !req.NotAfter.IsZero():
				return // it came too late
			case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
				p.book.complain("the API answered %d for %s", status, req.ApplicationID)
				return
			}
		}
	})
}

// promise is a link that the API answered with.
type promise struct {
	tasks.Link
	at time.Time
}

// promise remembers what an answer said.
func (b *book) promise(link tasks.Link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if link.URL != "" {
		b.promised = append(b.promised, promise{link, time.Now()})
	}
}

// honoured is that links which the API gave are those that are recorded.
func (e evidence) honoured() (found []string) {
	for _, link := range e.promised {
		known := false
		for _, r := range e.records[link.ApplicationID] {
			known = known || r.Generation == link.Generation && r.Outcome.URL == link.URL
		}
		if !known && !e.lost(link.at) {
			found = append(found, fmt.Sprintf("the API answered with a link of %s, generation %d, that its record does not have", link.ApplicationID, link.Generation))
		}
	}
	return found
}

// lost says that Redis may have lost what it acknowledged then.
func (e evidence) lost(at time.Time) bool { return e.forgets || e.upset.forgot(at) }
