package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// baselineArg makes this program do the same work with asynq alone, in a process whose
// processor time can be compared with kyclink's.
const baselineArg = "-as-bare-asynq"

// Environment variables of that process.
const (
	bareRedis    = "BENCH_REDIS"
	bareUpstream = "BENCH_UPSTREAM"
	bareServers  = "BENCH_SERVERS"
)

const bareTask = "bench:link"

func drainBare(ctx context.Context, b *suite, cfg simulator.Config, n, servers int) (work, error) {
	r, err := b.open(cfg)
	if err != nil {
		return work{}, err
	}
	defer r.close()
	queue := asynq.NewClientFromRedisClient(r.rdb)
	group, filling := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for row := range requests(0, n) {
		group.Go(func() error {
			_, err := queue.EnqueueContext(filling, asynq.NewTask(bareTask, []byte(row.Request.ApplicationID)))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return work{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return work{}, err
	}
	measured, err := r.startMeasuring(ctx)
	if err != nil {
		return work{}, err
	}
	err = r.run(self, []string{
		bareRedis + "=" + r.server.Addr, bareUpstream + "=" + r.upstream.url(), bareServers + "=" + strconv.Itoa(servers),
	}, baselineArg)
	if err != nil {
		return work{}, err
	}
	if err := r.waitUntil(ctx, "bare asynq has made all links", func() bool { return r.upstream.State().Links >= n }); err != nil {
		return work{}, err
	}
	return r.measureWork(ctx, measured, n)
}

// baseline runs asynq with its default settings and a handler that sends the same call. It
// ends on SIGTERM.
func baseline(notes io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serveBare(ctx); err != nil {
		fmt.Fprintln(notes, "bench:", err)
		return 1
	}
	return 0
}

func serveBare(ctx context.Context) error {
	servers, err := strconv.Atoi(os.Getenv(bareServers))
	if err != nil || servers < 1 {
		return fmt.Errorf("invalid %s: %q", bareServers, os.Getenv(bareServers))
	}
	c := &caller{url: os.Getenv(bareUpstream), http: &http.Client{
		Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: drainSlots},
	}}
	if err := c.authenticate(ctx); err != nil {
		return err
	}
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv(bareRedis)})
	defer func() { _ = rdb.Close() }()
	for range servers {
		s := asynq.NewServerFromRedisClient(rdb, asynq.Config{Concurrency: max(1, drainSlots/servers), LogLevel: asynq.WarnLevel})
		if err := s.Start(c); err != nil {
			return err
		}
		defer s.Shutdown()
	}
	<-ctx.Done()
	return nil
}

// caller requests links from FaceKi without kyclink.
type caller struct {
	url   string
	token string
	http  *http.Client
}

func (c *caller) authenticate(ctx context.Context) error {
	var answer struct {
		Data struct {
			Token string `json:"access_token"`
		} `json:"data"`
	}
	err := c.post(ctx, "/auth/api/generate-token", map[string]any{"clientId": "bench", "clientSecret": "bench"}, &answer)
	c.token = answer.Data.Token
	return err
}

// ProcessTask requests a link for the application id in the payload.
func (c *caller) ProcessTask(ctx context.Context, task *asynq.Task) error {
	var link struct {
		URL string `json:"url"`
	}
	body := map[string]any{"applicationId": string(task.Payload()), "expiryTime": 1440, "redirect_url": "https://shop.example/done"}
	if err := c.post(ctx, "/kycverify/api/kycverify/kyc-verify-link", body, &link); err != nil {
		return err
	}
	if link.URL == "" {
		return errors.New("the answer contains no link")
	}
	return nil
}

func (c *caller) post(ctx context.Context, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("unexpected status %d", resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
