package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	workers "github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// drain ends all faults, and waits until every request has ended and no work is left. After
// its timeout, it returns what has not ended.
func (r *rig) drain(ctx context.Context) ([]string, error) {
	if err := r.store.restore(ctx); err != nil {
		return nil, fmt.Errorf("restore Redis: %w", err)
	}
	if err := r.proxy.reset(ctx); err != nil {
		return nil, fmt.Errorf("restore the proxy to FaceKi: %w", err)
	}
	if err := r.restoreUpstream(); err != nil {
		return nil, err
	}
	if err := r.fleet.restore(); err != nil {
		return nil, err
	}
	r.receiver.fail("")
	if err := r.apiServer.restore(ctx); err != nil {
		return nil, fmt.Errorf("restore the API server: %w", err)
	}
	p := &producer{rdb: r.rdb, client: tasks.NewClient(r.rdb, producerConfig), generator: r.generator, journal: r.journal}
	stores := storage.New(r.rdb, storage.Config{Fleet: workers.Config{Account: account, Simulated: true}})
	end, lastReport := time.Now().Add(r.cfg.drain), time.Time{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		records, err := r.records(ctx)
		if err != nil {
			return nil, err
		}
		var open []string
		for _, id := range sortedIDs(records) {
			latest := records[id][0]
			if latest.State == request.Held {
				p.retry(ctx, stores, latest)
			}
			if !latest.State.Ended() {
				open = append(open, fmt.Sprintf("%s has not ended: %s in the %s lane since %s, %d attempts, %d charged", id, latest.State, latest.Lane,
					latest.ChangedAt.Format(time.TimeOnly), latest.Attempts, latest.Charged))
			}
		}
		leftovers, err := r.leftovers(ctx)
		if err != nil {
			return nil, err
		}
		if len(open)+len(leftovers) == 0 {
			if open, err = r.undelivered(ctx); err != nil || len(open) == 0 {
				return nil, err
			}
		}
		if lastReport.IsZero() {
			r.resume(ctx) // a gate may still be closed
		}
		if time.Since(lastReport) > 10*time.Second {
			lastReport = time.Now()
			if err := r.resumeBatches(ctx, stores); err != nil {
				return nil, err
			}
			fmt.Fprintf(r.cfg.notes, "draining: %d requests have not ended; remaining: %s\n", len(open), strings.Join(leftovers[:min(len(leftovers), 4)], "; "))
		}
		if time.Now().After(end) {
			return slices.Concat([]string{fmt.Sprintf("requests have not ended within %v", r.cfg.drain)}, open), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

var (
	token = regexp.MustCompile(`simulated-[0-9a-f]{8}-[0-9a-f]{4}`)
	uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// leaks checks that logs and Redis contain no secrets, and logs no links (promise 7).
func (r *rig) leaks(e evidence) (found []string, err error) {
	links := map[string]string{}
	for id, app := range e.issued {
		for _, link := range app.Links {
			links[link.LinkID] = id
		}
	}
	logs, err := filepath.Glob(filepath.Join(r.cfg.dir, "*.log"))
	if err != nil {
		return nil, err
	}
	secrets := []string{clientSecret, strings.TrimPrefix(callbackSecret, "whsec_"), r.apiServer.key}
	for _, file := range slices.Concat(logs, r.store.dataFiles()) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, fmt.Sprintf("%s contains a secret that begins with %.8s", name, secret))
			}
		}
		if token.Match(text) {
			found = append(found, fmt.Sprintf("%s contains an access token", name))
		}
		if !slices.Contains(logs, file) {
			continue // Redis contains the links
		}
		for _, id := range uuids.FindAll(text, -1) {
			if application, ok := links[string(id)]; ok {
				found = append(found, fmt.Sprintf("%s contains a link of %s", name, application))
			}
		}
	}
	return found, nil
}
