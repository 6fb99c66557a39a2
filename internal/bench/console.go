package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func consoles() []scenario {
	return []scenario{
		{"console", "kyclink serve, one page at a time: 1,000,000 waiting and 100,000 failed requests in 10,000 batches, no worker", false, 400 * time.Second, 20 * time.Minute, consoleAtScale},
	}
}

// measured is a page of the console, or a list of the API.
type measured struct{ name, path string }

// consolePages are the pages that are measured; a new page is one more line.
func consolePages() []measured {
	return []measured{
		{"Now", "/"},
		{"Requests", "/requests"},
		{"Requests, failed", "/requests?status=failed"},
		{"Requests, failed with a reason, since yesterday", "/requests?status=failed&reason=not_after&since=24h"},
		{"Requests, held", "/requests?status=held"},
		{"Requests, of a batch", "/requests?batch=bench"},
		{"Requests, by the begin of the ID", "/requests?id=B-004"},
		{"Request, waiting", "/request?id=B-0050000"},
		{"Request, failed", "/request?id=F-0000100"},
		{"Batches", "/batches"},
		{"Batches, the oldest", "/batches?before=51"},
		{"Batches, by a part of the name", "/batches?find=small-000"},
		{"Batch, large", "/batch?name=bench"},
		{"Batch, small", "/batch?name=small-00042"},
		{"Import", "/batches/new"},
		{"Failed", "/failed"},
		{"Failed, with a reason", "/failed?reason=not_after"},
		{"Failed, of a batch", "/failed?batch=small-00042"},
		{"Held", "/held"},
		{"Callbacks", "/callbacks"},
		{"Callbacks, being retried", "/callbacks?status=retrying"},
		{"Actions", "/actions"},
		{"Account", "/account"},
		{"API keys", "/keys"},
		{"Audit trail", "/audit"},
	}
}

// forget erases a request of the large batch, and one of a small batch.
func (r *rig) forget(ctx context.Context, o *operator) (all []figure, err error) {
	for _, id := range []string{"B-0050000", "F-0000100"} {
		c, err := r.costOf(ctx, o.service.PID(), func() error {
			_, err := r.runToEnd(ctx, "forget", id, "--yes")
			return err
		})
		if err != nil {
			return all, err
		}
		all = append(all, atMost("forget "+id+": time of Redis' commands", "ms", milliseconds(c.redis), 20),
			info("forget "+id+": commands", "", float64(c.commands)))
	}
	return all, nil
}

// linkFilters are the filters of GET /v1/links that are measured.
func linkFilters() []measured {
	since, before := ago(5*24*time.Hour), ago(4*24*time.Hour)
	return []measured{
		{"no filter", ""},
		{"status=waiting", "status=waiting"},
		{"status=failed", "status=failed"},
		{"status=held", "status=held"},
		{"status=created", "status=created"},
		{"reason", "reason=upstream_error"},
		{"lane", "lane=interactive"},
		{"batch, large", "batch=bench"},
		{"batch, small", "batch=small-00042"},
		{"since", "since=" + since},
		{"before", "before=" + before},
		{"id_prefix of 10,000", "id_prefix=B-004"},
		{"id_prefix of 10", "id_prefix=B-004512"},
		{"id_prefix of none", "id_prefix=nobody"},
		{"status=failed and reason", "status=failed&reason=not_after"},
		{"status=failed, since and before", "status=failed&since=" + since + "&before=" + before},
		{"status=failed and batch", "status=failed&batch=small-00042"},
		{"batch and id_prefix", "batch=bench&id_prefix=B-0049"},
		{"lane, since and id_prefix", "lane=bulk&since=" + since + "&id_prefix=N-"},
	}
}

func ago(d time.Duration) string {
	return url.QueryEscape(time.Now().Add(-d).UTC().Format(time.RFC3339))
}

// operator is a browser that is signed in to the console of a service, and a program that
// uses its API with the same key.
type operator struct {
	*http.Client
	service *service
	key     string
	cookie  *http.Cookie
}

// signIn creates a key, and a session with it.
func (r *rig) signIn(ctx context.Context, s *service) (*operator, error) {
	key, _, err := apikey.NewKeyring(r.rdb, account).Create(ctx, "bench", apikey.Scopes())
	if err != nil {
		return nil, err
	}
	o := &operator{
		&http.Client{
			Transport:     &http.Transport{DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}, s, key, nil,
	}
	form := url.Values{"key": {key}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/sign-in", strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := o.Do(req)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close() // a redirect
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) == 0 {
		return nil, fmt.Errorf("sign in to the console: got %s", resp.Status)
	}
	o.cookie = resp.Cookies()[0]
	return o, nil
}

// open requests a page of the console or, with a path of the API, one of its lists. The
// caller closes its body.
func (o *operator) open(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.service.addr+path, nil)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "/v1/") {
		req.Header.Set("Authorization", "Bearer "+o.key)
	} else {
		req.AddCookie(o.cookie)
	}
	resp, err := o.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 2000)) // for the error only
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: got %s: %s", path, resp.Status, text)
	}
	return resp, nil
}

// get returns a page, and the time until it was complete.
func (o *operator) get(ctx context.Context, path string) ([]byte, time.Duration, error) {
	began := time.Now()
	resp, err := o.open(ctx, path)
	if err != nil {
		return nil, 0, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it has been read
	return text, time.Since(began), err
}

func consoleAtScale(ctx context.Context, b *suite) ([]figure, error) {
	r, err := b.open(simulator.Config{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.populate(ctx, pick(b,
		population{waiting: 100_000, failed: 10_000, batches: 1000, held: 100, interactive: 1200, keys: 10},
		population{waiting: 1_000_000, failed: 100_000, batches: 10_000, held: 1000, interactive: 2000, keys: 100},
		population{waiting: 1_000_000, failed: 100_000, batches: 10_000, held: 1000, interactive: 2000, keys: 100})); err != nil {
		return nil, err
	}
	s, err := r.serve(ctx, 0)
	if err != nil {
		return nil, err
	}
	o, err := r.signIn(ctx, s)
	if err != nil {
		return nil, err
	}
	defer o.CloseIdleConnections()
	memory, err := r.memory(ctx)
	if err != nil {
		return nil, err
	}
	all := []figure{info("Redis memory", "MiB", memory/(1<<20))}
	for _, part := range []func(context.Context, *operator) ([]figure, error){r.pages, r.live, r.lists, r.forget} {
		figures, err := part(ctx, o)
		if err != nil {
			return all, err
		}
		all = append(all, figures...)
	}
	return append(all, info("peak memory of the service", "MiB", float64(peakOf(s.PID()))/(1<<20))), nil
}

// pages measures the pages of the console. The first visit of each is not measured.
func (r *rig) pages(ctx context.Context, o *operator) (all []figure, err error) {
	for _, page := range consolePages() {
		text, _, err := o.get(ctx, page.path)
		if err != nil {
			return all, err
		}
		var took []time.Duration
		times := pick(r.suite, 10, 20, 50)
		cost, err := r.costOf(ctx, o.service.PID(), func() error {
			for range times {
				_, d, err := o.get(ctx, page.path)
				if err != nil {
					return err
				}
				took = append(took, d)
			}
			return nil
		})
		if err != nil {
			return all, err
		}
		all = append(all, atMost(page.name, "ms", milliseconds(percentile(took, 50)), 200),
			info(page.name+": fastest", "ms", milliseconds(slices.Min(took))),
			atMost(page.name+": size", "kB", float64(len(text))/1000, 100))
		all = append(all, cost.figures(page.name, times)...)
	}
	return all, nil
}

// lists follows each list of links to its end, or as far as that does not take too long.
func (r *rig) lists(ctx context.Context, o *operator) (all []figure, err error) {
	const repetitions = 3
	for _, filter := range linkFilters() {
		var took []time.Duration
		cost, err := r.costOf(ctx, o.service.PID(), func() (err error) {
			took, err = o.follow(ctx, filter.path, pick(r.suite, 30, 300, 3000), repetitions)
			return err
		})
		if err != nil {
			return all, err
		}
		name := "links, " + filter.name
		all = append(all, atMost(name+": slowest page", "ms", milliseconds(slices.Max(took)), 50),
			info(name+": median", "ms", milliseconds(percentile(took, 50))), info(name+": pages", "", float64(len(took))))
		all = append(all, cost.figures(name, repetitions*len(took))...)
	}
	return all, nil
}

// follow reads the pages of a list of links, at most so many, and returns the shortest time
// that each took when it was read several times.
func (o *operator) follow(ctx context.Context, filter string, most, repetitions int) (took []time.Duration, err error) {
	query, err := url.ParseQuery(filter)
	if err != nil {
		return nil, err
	}
	for len(took) < most {
		var text []byte
		shortest := time.Duration(math.MaxInt64)
		for range repetitions {
			var d time.Duration
			if text, d, err = o.get(ctx, "/v1/links?"+query.Encode()); err != nil {
				return nil, err
			}
			shortest = min(shortest, d)
		}
		took = append(took, shortest)
		var page struct{ Next string }
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, fmt.Errorf("%w in %.200q", err, text)
		}
		if page.Next == "" {
			break
		}
		query.Set("cursor", page.Next)
	}
	return took, nil
}

// browsers is how many watch the page Now.
const browsers = 50

// live measures what Redis pays for browsers that watch the page Now.
func (r *rig) live(ctx context.Context, o *operator) ([]figure, error) {
	period := pick(r.suite, 10*time.Second, 20*time.Second, time.Minute)
	without, err := r.costOf(ctx, o.service.PID(), func() error { return r.sleep(ctx, period) })
	if err != nil {
		return nil, err
	}
	watching, leave := context.WithCancel(ctx)
	defer leave()
	var group errgroup.Group
	received := make([]int64, browsers)
	for i := range browsers {
		resp, err := o.open(watching, "/live")
		if err != nil {
			return nil, err
		}
		group.Go(func() error {
			defer func() { _ = resp.Body.Close() }()
			received[i], err = io.Copy(io.Discard, resp.Body)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return errors.Join(err, errors.New("a live page ended"))
		})
	}
	with, err := r.costOf(ctx, o.service.PID(), func() error { return r.sleep(ctx, period) })
	leave()
	if err := errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	seconds := period.Seconds()
	return []figure{
		atMost("Now in 50 browsers, Redis", "ms/s", milliseconds(with.redis-without.redis)/seconds, 2),
		info("Now in 50 browsers, processor time of Redis", "ms/s", milliseconds(with.server-without.server)/seconds),
		info("Now in 50 browsers, commands", "1/s", float64(with.commands-without.commands)/seconds),
		info("Now in 50 browsers, processor time of the service", "ms/s", milliseconds(with.service-without.service)/seconds),
		info("Now in 50 browsers, received by each", "kB/s", float64(slices.Min(received))/1000/seconds),
	}, nil
}
