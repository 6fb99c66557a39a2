package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/tasks"
)

const requestTimeout = time.Minute

// The shares of the sources of requests.
const (
	byHTTP   = 0.4
	byStream = 0.3
	byBatch  = 0.3
)

// load requests links until ctx ends, while FaceKi has outages and people are forgotten.
func (r *rig) load(ctx context.Context) {
	var running sync.WaitGroup
	for _, do := range []func(context.Context){r.signups, r.entries, r.batches, r.erase, r.interrupt} {
		running.Go(func() { do(ctx) })
	}
	running.Wait()
}

// each calls do at regular times until ctx ends. After a delay it catches up.
func each(ctx context.Context, pause time.Duration, do func(n int)) {
	began := time.Now()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(time.Duration(n) * pause))):
			do(n)
		}
	}
}

// pauseOf returns the time between two requests of a source with a share of the rate.
func (r *rig) pauseOf(share float64) time.Duration {
	return time.Duration(float64(time.Second) / (r.cfg.rate * share))
}

// request returns a request, every third of which has a callback, and records it.
func (r *rig) request(source string, n int) tasks.Request {
	req := tasks.Request{
		ApplicationID: fmt.Sprintf("%s-%07d", source, n), RedirectURL: "https://shop.example/done",
		Metadata: json.RawMessage(fmt.Sprintf(`{"customer":"%d"}`, n)),
	}
	if n%3 == 0 {
		req.CallbackURL = r.receiver.URL + "/hooks/soak"
	}
	r.book.request(req.ApplicationID, req.CallbackURL != "")
	return req
}

// signups requests links over HTTP, and waits for each for a second, as a page does. A few
// are requested again, and shown.
func (r *rig) signups(ctx context.Context) {
	var asking sync.WaitGroup
	each(ctx, r.pauseOf(byHTTP), func(n int) {
		asking.Go(func() {
			body := encode(r.request("H", n))
			r.call(ctx, http.MethodPost, "/v1/links", "application/json", body)
			if n%20 == 0 {
				r.call(ctx, http.MethodPost, "/v1/links", "application/json", body)
				r.call(ctx, http.MethodGet, fmt.Sprintf("/v1/links/H-%07d", n), "", nil)
			}
		})
	})
	asking.Wait()
}

func encode(req tasks.Request) []byte {
	text, err := json.Marshal(req)
	if err != nil {
		panic(err) // its metadata is valid JSON
	}
	return text
}

// call sends one request to the API. Every answer but 2xx is a problem.
func (r *rig) call(ctx context.Context, method, path, contentType string, body []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	call, err := http.NewRequestWithContext(ctx, method, "http://"+r.api+path, bytes.NewReader(body))
	if err != nil {
		r.book.problem("%s %s: %v", method, path, err)
		return
	}
	call.Header.Set("Authorization", "Bearer "+r.key)
	call.Header.Set("Prefer", "wait=1")
	if contentType != "" {
		call.Header.Set("Content-Type", contentType)
	}
	answer, err := r.http.Do(call)
	if err != nil {
		r.book.problem("%s %s: %v", method, path, err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		r.book.problem("%s %s was answered with %s (%v): %.200s", method, path, answer.Status, err, text)
	}
}

// entries adds requests to the intake stream.
func (r *rig) entries(ctx context.Context) {
	each(ctx, r.pauseOf(byStream), func(n int) {
		body := encode(r.request("S", n))
		err := r.rdb.XAdd(context.WithoutCancel(ctx), &redis.XAddArgs{Stream: r.keys.Requests(), Values: []any{"request", body}}).Err()
		if err != nil {
			r.book.problem("add an entry to the intake stream: %v", err)
		}
	})
}

// batches sends batches to the API.
func (r *rig) batches(ctx context.Context) {
	pause := r.cfg.pause()
	rows := max(1, int(byBatch*r.cfg.rate*pause.Seconds()))
	each(ctx, pause, func(n int) {
		var body bytes.Buffer
		for i := range rows {
			body.Write(encode(r.request(batchName(n), i)))
			body.WriteByte('\n')
		}
		r.call(ctx, http.MethodPost, "/v1/batches?batch="+batchName(n), "application/x-ndjson", body.Bytes())
	})
}

func batchName(n int) string { return fmt.Sprintf("batch-%06d", n) }

// erase forgets a few people and, less often, an older batch.
func (r *rig) erase(ctx context.Context) {
	each(ctx, r.cfg.pause(), func(n int) {
		args := append([]string{"forget", "--yes"}, r.book.takeFinished(3)...)
		if n%4 == 0 && !r.book.awaits(batchName(n-3)) {
			args = []string{"forget", "--yes", "--batch", batchName(n - 3)}
		}
		if len(args) == 2 {
			return
		}
		if err := r.forget(context.WithoutCancel(ctx), args); err != nil {
			r.book.problem("%v", err)
		}
	})
}

// forget runs a command that forgets, and repeats it as long as it says that it skipped
// requests that are being called.
func (r *rig) forget(ctx context.Context, args []string) error {
	const times = 10
	for i := 1; ; i++ {
		_, err := r.command(ctx, args...)
		if err == nil || i == times || !strings.Contains(err.Error(), "run the same command again") {
			return err
		}
		<-time.After(time.Second)
	}
}

// interrupt lets FaceKi have outages. The last one ends early enough for the load to go on
// for as long as it lasted.
func (r *rig) interrupt(ctx context.Context) {
	every, length := r.cfg.outages()
	each(ctx, every, func(int) {
		from := time.Since(r.began)
		if from+2*length > r.cfg.duration {
			return
		}
		r.mu.Lock()
		r.outages = append(r.outages, period{from, from + length})
		r.mu.Unlock()
		script := working()
		script.Outage = &simulator.Fault{Name: "http_503"}
		r.note("outage of %v", length)
		r.script(script)
		select {
		case <-ctx.Done():
		case <-time.After(length):
		}
		r.script(working())
	})
}

func (r *rig) script(s simulator.Script) {
	if err := r.upstream.SetScript(s); err != nil {
		r.fail(fmt.Errorf("change the simulator's behavior: %w", err))
	}
}
