package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

func accounts() []scenario {
	return []scenario{
		{"accounts", "1 process with 200 idle accounts; then a signup in one of them", false, 80 * time.Second, 10 * time.Minute, idleAccounts},
	}
}

// accountsServed is the number of accounts in the process.
const accountsServed = 200

// idleAccounts measures what accounts without work cost, and how long the first request of
// one of them waits.
func idleAccounts(ctx context.Context, b *suite) ([]figure, error) {
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.serveAccounts(ctx); err != nil {
		return nil, err
	}
	pid := r.processes[0].PID()
	// All have joined and rest: none has work.
	if err := r.sleep(ctx, pick(b, 15*time.Second, 15*time.Second, time.Minute)); err != nil {
		return nil, err
	}
	measured := pick(b, 20*time.Second, time.Minute, 10*time.Minute)
	began := time.Now()
	c, err := r.costOf(ctx, pid, func() error { return r.sleep(ctx, measured) })
	if err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	text, err := r.rdb.Info(ctx, "clients").Result()
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(text, "connected_clients:")
	var connections float64
	if _, err := fmt.Sscan(rest, &connections); err != nil {
		return nil, fmt.Errorf("read the number of connections: %w", err)
	}
	scrape, err := r.scrapeAccounts(ctx, pid)
	if err != nil {
		return nil, err
	}
	first, err := r.firstSignups(ctx)
	if err != nil {
		return nil, err
	}
	const percent = 100
	return []figure{
		atMost("processor time of the process", "% of a core", c.service.Seconds()/seconds*percent, 10),
		atMost("peak memory of the process", "MiB", float64(peakOf(pid))/(1<<20), 250),
		info("processor time of Redis", "% of a core", c.server.Seconds()/seconds*percent),
		info("commands for each account, with those in scripts", "/s", float64(c.commands)/seconds/accountsServed),
		info("connections to Redis", "", connections),
		info("processor time of the process for one scrape of its metrics", "ms", milliseconds(scrape)),
		info("from accept to link, first signup of an idle account, mean of 20", "ms", milliseconds(first)),
	}, nil
}

// serveAccounts starts the process, and waits until all accounts have joined.
func (r *rig) serveAccounts(ctx context.Context) error {
	dir := filepath.Join(r.dir, "accounts")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for i := range accountsServed {
		if err := os.WriteFile(filepath.Join(dir, accountName(i)+".env"), []byte("FACEKI_RATE=5/s\n"), 0o600); err != nil {
			return err
		}
	}
	if err := r.workers(1, "KYCLINK_ACCOUNTS="+dir); err != nil {
		return err
	}
	return r.waitUntil(ctx, "all accounts have joined", func() bool {
		last, err := r.rdb.Exists(ctx, workersOfAll()...).Result()
		return err == nil && last == accountsServed
	})
}

func accountName(i int) string { return fmt.Sprintf("bench-%03d", i) }

// workersOfAll are the keys with the workers of each account.
func workersOfAll() []string {
	keys := make([]string, accountsServed)
	for i := range keys {
		keys[i] = "{kyclink:" + accountName(i) + "}:workers"
	}
	return keys
}

// scrapeAccounts returns the processor time that the process needs for a scrape.
func (r *rig) scrapeAccounts(ctx context.Context, pid int) (time.Duration, error) {
	const scrapes = 5
	log, err := os.ReadFile(r.processes[0].Log)
	if err != nil {
		return 0, err
	}
	address := regexp.MustCompile(`"ops_address":"([^"]+)"`).FindSubmatch(log)
	if address == nil {
		return 0, errors.New("the process does not log the address of its metrics")
	}
	began := processorTimeOf(pid)
	for range scrapes {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/metrics", address[1]), nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, fmt.Errorf("scrape: %w", err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return 0, fmt.Errorf("scrape: %w", err)
		}
	}
	return (processorTimeOf(pid) - began) / scrapes, nil
}

// firstSignups returns the mean time from the acceptance of a request until its link, one
// after the other in accounts that are idle, without the latency of the simulator.
func (r *rig) firstSignups(ctx context.Context) (time.Duration, error) {
	const signups = 20
	var sum time.Duration
	for i := range signups {
		client := tasks.NewClient(r.rdb, tasks.Config{Account: accountName(i)})
		began := time.Now()
		if _, err := client.Enqueue(ctx, tasks.Request{ApplicationID: "A-1"}); err != nil {
			return 0, err
		}
		link, err := client.Wait(ctx, "A-1")
		if err != nil {
			return 0, err
		}
		if link.Status != tasks.Created {
			return 0, fmt.Errorf("the first signup of %s is %s", accountName(i), link.Status)
		}
		sum += time.Since(began) - latency
	}
	return sum / signups, nil
}
