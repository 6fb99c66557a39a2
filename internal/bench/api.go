package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/tasks"
)

func apis() []scenario {
	return []scenario{
		{"api-post", "kyclink serve, POST /v1/links without waiting, 64 connections with keep-alive and 16 keys", true, 15 * time.Second, 3 * time.Minute, apiPost},
		{"api-wait", "kyclink serve, 2,000 at once with Prefer: wait=10, 1 worker at 500/s", true, 10 * time.Second, 3 * time.Minute, apiWait},
	}
}

// service is a `kyclink serve` process.
type service struct {
	*child.Process

	addr string
	keys []string
}

// serve starts a service and creates API keys for it.
func (r *rig) serve(ctx context.Context, keys int) (*service, error) {
	settings := []string{"KYCLINK_REDIS_URL=" + r.server.URL, "KYCLINK_LISTEN=127.0.0.1:0", "KYCLINK_LOG_FORMAT=json"}
	s := &service{}
	for range keys {
		key, err := child.Output(ctx, settings, r.suite.kyclink, "keys", "create", "--name", "bench", "--scope", "enqueue")
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, strings.TrimSpace(key))
	}
	if err := r.run(r.suite.kyclink, settings, "serve"); err != nil {
		return nil, err
	}
	s.Process = r.last()
	address := regexp.MustCompile(`"address":"([^"]+)"`)
	return s, r.waitUntil(ctx, "the service listens", func() bool {
		log, err := os.ReadFile(s.Log)
		found := address.FindSubmatch(log)
		if err == nil && found != nil {
			s.addr = string(found[1])
		}
		return s.addr != ""
	})
}

// client is a connection that needs less processor time than net/http's, because it shares
// the processors with the measured processes.
type client struct {
	conn   net.Conn
	answer *bufio.Reader
	head   string
}

func (s *service) connect(ctx context.Context, number int, headers string) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReader(conn), fmt.Sprintf("POST /v1/links HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%s",
		s.keys[number%len(s.keys)], headers)}, nil
}

// post requests a link and returns the status and the body.
func (c *client) post(id string) (int, []byte, error) {
	body := `{"application_id":"` + id + `","redirect_url":"https://shop.example/done"}`
	if _, err := fmt.Fprintf(c.conn, "%sContent-Length: %d\r\n\r\n%s", c.head, len(body), body); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(c.answer, nil)
	if err != nil {
		return 0, nil, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it has been read
	return resp.StatusCode, text, err
}

func apiPost(ctx context.Context, b *suite) ([]figure, error) {
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	s, err := r.serve(ctx, 16)
	if err != nil {
		return nil, err
	}
	const connections = 64
	lasts := pick(b, 4*time.Second, 10*time.Second, time.Minute)
	took := make([][]time.Duration, connections)
	group, going := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range connections {
		group.Go(func() error {
			c, err := s.connect(going, i, "")
			if err != nil {
				return err
			}
			defer func() { _ = c.conn.Close() }()
			for n := 0; time.Since(began) < lasts; n++ {
				at := time.Now()
				status, body, err := c.post(fmt.Sprintf("P-%d-%d", i, n))
				if err != nil || status != http.StatusAccepted {
					return fmt.Errorf("status %d: %s: %w", status, body, err)
				}
				took[i] = append(took[i], time.Since(at))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	all := slices.Concat(took...)
	peak := peakOf(s.PID())
	if err := s.Stop(30 * time.Second); err != nil {
		return nil, err
	}
	return []figure{
		atLeast("requests accepted", "/s", float64(len(all))/seconds, 5000),
		info("answer, p50", "ms", milliseconds(percentile(all, 50))),
		atMost("answer, p99", "ms", milliseconds(percentile(all, 99)), 50),
		info("processor time of the service per request", "µs", cpuOf(s.Process).Seconds()/float64(len(all))*1e6),
		info("peak memory of the service", "MiB", float64(peak)/(1<<20)),
	}, nil
}

// answer is the time when a waiting client received its link.
type answer struct {
	id string
	at time.Time
}

func apiWait(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{500, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.workers(1, settings("500/s", l.burst, 64)...); err != nil {
		return nil, err
	}
	s, err := r.serve(ctx, 16)
	if err != nil {
		return nil, err
	}
	if err := r.enqueueOne(ctx, "warm-up"); err != nil {
		return nil, err
	}
	if err := r.waitForCalls(ctx, 1); err != nil {
		return nil, err
	}
	waiting := pick(b, 500, 2000, 2000)
	clients := make([]*client, waiting)
	for i := range clients {
		if clients[i], err = s.connect(ctx, i, "Prefer: wait=10\r\n"); err != nil {
			return nil, err
		}
		defer func() { _ = clients[i].conn.Close() }()
	}
	got := make([]answer, waiting)
	var group errgroup.Group
	began := time.Now()
	for i, c := range clients {
		group.Go(func() (err error) {
			got[i], err = c.wait(fmt.Sprintf("W-%05d", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	figures, err := r.addedTime(l, began, got)
	if err != nil {
		return nil, err
	}
	figures = append(figures, atMost("peak memory of the service", "MiB", float64(peakOf(s.PID()))/(1<<20), 200))
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

// wait requests a link, and fails if the answer does not contain it.
func (c *client) wait(id string) (answer, error) {
	status, body, err := c.post(id)
	at := time.Now()
	var link tasks.Link
	if err = errors.Join(err, json.Unmarshal(bytes.TrimSpace(body), &link)); err != nil {
		return answer{}, fmt.Errorf("%s: status %d: %s: %w", id, status, body, err)
	}
	if status != http.StatusCreated || link.ApplicationID != id || link.URL == "" {
		return answer{}, fmt.Errorf("%s: status %d, and the request is %s; want a link", id, status, link.Status)
	}
	return answer{id, at}, nil
}

// addedTime measures the time in addition to FaceKi's latency: from its answer until that
// to the client, and from the time at which the rate permitted the call.
func (r *rig) addedTime(l limit, began time.Time, got []answer) ([]figure, error) {
	called := map[string]time.Time{}
	var order []string
	for _, call := range r.upstream.calls() {
		if called[call.ApplicationID].IsZero() {
			order = append(order, call.ApplicationID)
		}
		called[call.ApplicationID] = call.At
	}
	order = order[1:] // the warm-up
	slices.SortFunc(order, func(a, b string) int { return called[a].Compare(called[b]) })
	at := map[string]time.Time{}
	for _, a := range got {
		at[a.id] = a.at
	}
	var after, all []time.Duration
	for i, id := range order {
		allowed := began.Add(time.Duration(float64(max(0, i-l.burst+1)) / l.perSecond * float64(time.Second)))
		after = append(after, at[id].Sub(called[id])-latency)
		all = append(all, at[id].Sub(allowed)-latency)
	}
	if len(order) != len(got) {
		return nil, fmt.Errorf("%d requests were called, but %d clients waited", len(order), len(got))
	}
	return []figure{
		info("from FaceKi's answer to the client, p50", "ms", milliseconds(percentile(after, 50))),
		info("from FaceKi's answer to the client, p99", "ms", milliseconds(percentile(after, 99))),
		info("added to latency and rate limit, p50", "ms", milliseconds(percentile(all, 50))),
		atMost("added to latency and rate limit, p99", "ms", milliseconds(percentile(all, 99)), 100),
	}, nil
}
