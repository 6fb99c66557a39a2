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

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// population is what an account contains.
type population struct {
	waiting, failed, batches int
	held                     int
	// interactive requests have a link and a callback, which the receiver refuses for ever or
	// for now.
	interactive int
	keys        int
}

const (
	account = "default"
	// keptFor is the period in which the failed requests failed.
	keptFor = 10 * 24 * time.Hour
	// pausedEach is the share of small batches that are paused: every tenth.
	pausedEach = 10
	// signupsWaiting are interactive requests that no worker has handled.
	signupsWaiting = 500
)

// populate fills the account: one large batch, and small ones that share the failed requests
// and as many waiting ones.
func (r *rig) populate(ctx context.Context, p population) error {
	for _, part := range []struct {
		what string
		fill func(context.Context, population) error
	}{
		{"interactive requests with callbacks", r.fillInteractive},
		{"batches with failed requests", r.fillBatches},
		{"held requests", r.fillHeld},
		{"waiting requests", r.fillWaiting},
		{"keys and the audit trail", r.fillKeys},
	} {
		began := time.Now()
		if err := part.fill(ctx, p); err != nil {
			return fmt.Errorf("fill Redis with %s: %w", part.what, err)
		}
		r.suite.note("filled Redis with %s in %v", part.what, time.Since(began).Round(time.Second))
	}
	return nil
}

// fillInteractive has a worker create links and send callbacks, while nothing else waits.
func (r *rig) fillInteractive(ctx context.Context, p population) error {
	var received atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		status := http.StatusGone
		if req.URL.Path == "/later" {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		received.Add(1)
	}))
	defer receiver.Close()
	client := tasks.NewClient(r.rdb, tasks.Config{Callbacks: tasks.Callbacks{
		Hosts: []string{"*"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	enqueue := func(name string, n int) error {
		return concurrently(ctx, n, func(ctx context.Context, i int) error {
			_, err := client.Enqueue(ctx, tasks.Request{ApplicationID: fmt.Sprintf("%s-%05d", name, i), CallbackURL: receiver.URL + "/" + name})
			return err
		})
	}
	if err := errors.Join(enqueue("gone", p.interactive/2), enqueue("later", p.interactive/2)); err != nil {
		return err
	}
	with := append(settings("2000/s", 100, 32), "KYCLINK_CALLBACK_HOSTS=*", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8",
		"KYCLINK_CALLBACK_SECRET=whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh")
	if err := r.workers(1, with...); err != nil {
		return err
	}
	want := int64(p.interactive / 2 * 2)
	if err := r.waitUntil(ctx, "all callbacks are refused", func() bool { return received.Load() >= want }); err != nil {
		return err
	}
	if err := r.last().Stop(time.Minute); err != nil {
		return err
	}
	return enqueue("signup", signupsWaiting)
}

// fillBatches restores failed requests as a run does that lost its Redis, and imports them
// again with as many new rows, in batches of equal size.
func (r *rig) fillBatches(ctx context.Context, p population) error {
	stores, batches := storage.Of(r.rdb, account), p.batches-1
	return concurrently(ctx, batches, func(ctx context.Context, i int) error {
		first, end := p.failed*i/batches, p.failed*(i+1)/batches
		name := fmt.Sprintf("small-%05d", i)
		var list []request.Record
		var rows []tasks.Request
		for n := first; n < end; n++ {
			list = append(list, ended(n, n-first+1, p.failed))
			rows = append(rows, tasks.Request{ApplicationID: list[n-first].ApplicationID})
		}
		for n := first; n < end; n++ {
			rows = append(rows, tasks.Request{ApplicationID: fmt.Sprintf("N-%07d", n)})
		}
		if err := stores.Requests.Restore(ctx, name, list); err != nil {
			return err
		}
		var refused error
		err := r.client.EnqueueAll(ctx, tasks.Batch{Name: name}, tasks.Rows(rows), func(result tasks.Result) {
			refused = errors.Join(refused, result.Err)
		})
		if err := errors.Join(err, refused); err != nil || i%pausedEach != 0 {
			return err
		}
		b, _, err := stores.Batches.ByName(ctx, name)
		if err == nil {
			err = stores.Batches.Control(ctx, b, batch.Pause)
		}
		return err
	})
}

// ended is one of so many failed requests.
func ended(n, row, all int) request.Record {
	reasons := [][2]string{
		{"invalid_request", "FaceKi refused the request: the redirect URL is not allowed for this account (code 1001)"},
		{"upstream_error", "FaceKi answered 500: internal error"},
		{"not_after", "the request's not_after has passed"},
		{"workflow_rules", "FaceKi refused the request: the workflow does not permit an optional document"},
	}
	why := reasons[n%len(reasons)]
	at := time.Now().Add(-keptFor / time.Duration(all) * time.Duration(all-n)).Truncate(time.Millisecond)
	return request.Record{
		ApplicationID: fmt.Sprintf("F-%07d", n), State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 3,
		AcceptedAt: at.Add(-time.Hour), ChangedAt: at, Content: request.Content{RedirectURL: "https://shop.example/done", Row: row},
		Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: why[0], Message: why[1], EndedAt: at},
	}
}

// fillHeld restores requests whose outcome is uncertain.
func (r *rig) fillHeld(ctx context.Context, p population) error {
	stores := storage.Of(r.rdb, account)
	return concurrently(ctx, p.held/100, func(ctx context.Context, i int) error {
		var list []request.Record
		for n := range 100 {
			held := ended(i*100+n, n, p.held)
			held.ApplicationID, held.State = fmt.Sprintf("H-%07d", i*100+n), request.Held
			held.Outcome = request.Outcome{Run: 1, Reason: "unknown_outcome", Message: "the connection was closed before FaceKi's answer was complete"}
			list = append(list, held)
		}
		return stores.Requests.Restore(ctx, fmt.Sprintf("held-%02d", i), list)
	})
}

// fillWaiting imports the rest of the waiting requests as one batch, named bench.
func (r *rig) fillWaiting(ctx context.Context, p population) error {
	return r.bulk(ctx, r.client, p.waiting-p.failed)
}

func (r *rig) fillKeys(ctx context.Context, p population) error {
	keys, trail := apikey.NewKeyring(r.rdb, account), audit.NewTrail(r.rdb, account)
	return concurrently(ctx, p.keys, func(ctx context.Context, i int) error {
		_, issued, err := keys.Create(ctx, fmt.Sprintf("service %d", i), []apikey.Scope{apikey.Enqueue})
		for n := 0; err == nil && n < 20; n++ {
			err = trail.Append(ctx, audit.Change{Key: apikey.Key{ID: issued.ID, Name: issued.Name}, Action: "links.cancel", Target: fmt.Sprintf("F-%07d", i), RequestID: "0123456789abcdef"})
		}
		return err
	})
}

// concurrently calls do with 0 to n-1, several at a time.
func concurrently(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range n {
		if going.Err() != nil {
			break
		}
		group.Go(func() error { return do(going, i) })
	}
	return group.Wait()
}
