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

// drain ends all faults and waits until every request has ended and nothing is
// left of the work. It gives what is stuck where that does not come about.
func (r *rig) drain(ctx context.Context) ([]string, error) {
	if err := r.store.heal(ctx); err != nil {
		return nil, fmt.Errorf("mend Redis: %w", err)
	}
	if err := r.road.clear(ctx); err != nil {
		return nil, fmt.Errorf("mend the way to FaceKi: %w", err)
	}
	if err := r.wellAgain(); err != nil {
		return nil, err
	}
	if err := r.fleet.heal(); err != nil {
		return nil, err
	}
	r.receiver.fail("")
	if err := r.front.heal(ctx); err != nil {
		return nil, fmt.Errorf("mend the way to the API: %w", err)
	}
	p := &producer{rdb: r.rdb, client: tasks.NewClient(r.rdb, hooked), people: r.people, book: r.book}
	books := storage.New(r.rdb, storage.Config{Fleet: workers.Config{Account: account, Simulated: true}})
	end, said := time.Now().Add(r.cfg.drain), time.Time{}
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
				p.goOn(ctx, books, latest)
			}
			if !latest.State.Ended() {
				open = append(open, fmt.Sprintf("%s has not ended: %s in the %s lane since %s, %d attempts, %d spent", id, latest.State, latest.Lane,
					latest.ChangedAt.Format(time.TimeOnly), latest.Attempts, latest.Charged))
			}
		}
		left, err := r.left(ctx)
		if err != nil {
			return nil, err
		}
		if len(open)+len(left) == 0 {
			if open, err = r.undelivered(ctx); err != nil || len(open) == 0 {
				return nil, err
			}
		}
		if said.IsZero() {
			r.resume(ctx) // whoever sees a closed gate before a well FaceKi does so
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			if err := r.resumeBatches(ctx, books); err != nil {
				return nil, err
			}
			fmt.Fprintf(r.cfg.notes, "draining: %d requests have not ended; left over: %s\n", len(open), strings.Join(left[:min(len(left), 4)], "; "))
		}
		if time.Now().After(end) {
			return slices.Concat([]string{fmt.Sprintf("not drained within %v", r.cfg.drain)}, open), nil
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

// leaks is promise 7, as far as logs and Redis go.
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
	secrets := []string{clientSecret, strings.TrimPrefix(callbackSecret, "whsec_"), r.front.key}
	for _, file := range slices.Concat(logs, r.store.written()) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, fmt.Sprintf("%s holds a secret that begins with %.8s", name, secret))
			}
		}
		if token.Match(text) {
			found = append(found, fmt.Sprintf("%s holds an access token", name))
		}
		if !slices.Contains(logs, file) {
			continue // Redis holds the links
		}
		for _, id := range uuids.FindAll(text, -1) {
			if of, is := links[string(id)]; is {
				found = append(found, fmt.Sprintf("%s holds a link of %s", name, of))
			}
		}
	}
	return found, nil
}
