package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

func callbacks() []scenario {
	return []scenario{
		{"callbacks", "4 processes, 200/s, 6,000 waiting requests, without and with callbacks: half of them to a receiver that takes 100 ms, half to one that never answers", false, 70 * time.Second, 4 * time.Minute, withCallbacks},
	}
}

func withCallbacks(ctx context.Context, b *suite) ([]figure, error) {
	without, _, err := callbackRun(ctx, b, false)
	if err != nil {
		return nil, fmt.Errorf("without callbacks: %w", err)
	}
	with, taken, err := callbackRun(ctx, b, true)
	if err != nil {
		return nil, fmt.Errorf("with callbacks: %w", err)
	}
	return []figure{
		atLeast("links with callbacks, and without", "1/s", with, 0.95).against(without),
		info("callbacks received by then", "", float64(taken)),
	}, nil
}

// callbackRun drains a backlog. It returns the rate of links and the number of callbacks
// received meanwhile.
func callbackRun(ctx context.Context, b *suite, on bool) (perSecond float64, received int64, err error) {
	var took atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		select {
		case <-time.After(100 * time.Millisecond):
			took.Add(1)
		case <-req.Context().Done():
		}
	}))
	defer slow.Close()
	dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // so that the server detects a disconnected sender
		<-req.Context().Done()
	}))
	defer dead.Close()
	r, err := b.open(answering())
	if err != nil {
		return 0, 0, err
	}
	defer r.close() // before the receivers, which wait for their callers
	with := settings("200/s", 5, slots)
	n := pick(b, 3000, 6000, 20_000)
	urls := []string{"", ""}
	if on {
		urls = []string{slow.URL, dead.URL}
		with = append(with, "KYCLINK_CALLBACK_HOSTS=*", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8",
			"KYCLINK_CALLBACK_SECRET=whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh")
	}
	for i, url := range urls {
		if err := r.enqueueBatch(ctx, fmt.Sprintf("bench-%d", i), url, n/2); err != nil {
			return 0, 0, err
		}
	}
	if err := r.workers(fleetSize, with...); err != nil {
		return 0, 0, err
	}
	at, from, to, err := r.drained(ctx)
	if err != nil {
		return 0, 0, err
	}
	made := 0
	for _, t := range at {
		if t.After(from) && !t.After(to) {
			made++
		}
	}
	return float64(made) / to.Sub(from).Seconds(), took.Load(), nil
}

// enqueueBatch enqueues a batch of n requests with a callback URL, if it is not empty.
func (r *rig) enqueueBatch(ctx context.Context, batch, url string, n int) error {
	client := tasks.NewClient(r.rdb, tasks.Config{Callbacks: tasks.Callbacks{
		Hosts: []string{"*"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	var refused error
	rows := func(yield func(tasks.Row) bool) {
		for row := range requests(r.accepted, n) {
			row.Number -= r.accepted
			if !yield(row) {
				return
			}
		}
	}
	err := client.EnqueueAll(ctx, tasks.Batch{Name: batch, Options: tasks.Options{CallbackURL: url}}, asSource(rows), func(result tasks.Result) {
		refused = errors.Join(refused, result.Err)
	})
	r.accepted += n
	return errors.Join(err, refused)
}
