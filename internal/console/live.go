package console

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	livePath     = "/live"
	liveInterval = time.Second
	// sessionInterval is how often a live page checks that its session has not ended.
	sessionInterval = 10 * time.Second
	// liveStall is how long a browser may take to accept an update.
	liveStall = 10 * time.Second
)

// live renders a part of a page once a second for all browsers that watch it, and not at all
// while none does. It is safe for concurrent use.
type live struct {
	render   func(context.Context) ([]byte, error)
	mu       sync.Mutex
	watchers map[chan []byte]bool
	stop     context.CancelFunc // of the rendering; nil while nobody watches
}

func newLive(render func(context.Context) ([]byte, error)) *live {
	return &live{render: render, watchers: map[chan []byte]bool{}}
}

// watch returns a channel with the latest update, and a function that ends the watching.
func (l *live) watch(failed func(error)) (updates <-chan []byte, leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := make(chan []byte, 1)
	l.watchers[mine] = true
	if l.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		l.stop = cancel
		go l.run(ctx, failed)
	}
	return mine, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(l.watchers, mine); len(l.watchers) == 0 && l.stop != nil {
			l.stop()
			l.stop = nil
		}
	}
}

func (l *live) run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	failing := false
	for {
		update, err := l.render(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			failed(err)
		}
		if failing = err != nil; !failing {
			l.send(update)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// send replaces the update that a watcher has not taken yet.
func (l *live) send(update []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.watchers {
		select {
		case <-w:
		default:
		}
		w <- update
	}
}

// nowLive streams the page Now as server-sent events.
func (c *Console) nowLive(_ context.Context, v *visit) error {
	control := http.NewResponseController(v.w)
	_ = control.SetReadDeadline(time.Time{})
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // for nginx
	v.w.WriteHeader(http.StatusOK)
	updates, leave := c.now.watch(func(err error) { c.Log.Warn("read the account for the console", zap.Error(err)) })
	defer leave()
	check := time.NewTicker(sessionInterval)
	defer check.Stop()
	var sent *[]byte // the chart that the browser has
	for {
		var event []byte
		select {
		case <-v.r.Context().Done():
			return nil
		case <-c.Stopping:
			return nil
		case update := <-updates:
			if chart := c.hour.update(); chart != sent {
				update, sent = slices.Concat(update, *chart), chart
			}
			event = frame(update)
		case <-check.C:
			if c.stillSignedIn(v) {
				continue
			}
			event = []byte("event: signed-out\ndata: \n\n")
		}
		_ = control.SetWriteDeadline(time.Now().Add(liveStall))
		if _, err := v.w.Write(event); err != nil {
			return nil // the browser has gone
		}
		if err := control.Flush(); err != nil || bytes.HasPrefix(event, []byte("event: signed-out")) {
			return nil // the browser has gone, or will
		}
	}
}

func (c *Console) stillSignedIn(v *visit) bool {
	ctx, cancel := context.WithTimeout(v.r.Context(), c.timeout)
	defer cancel()
	now, err := c.sessions.get(ctx, c.Keys, v.r, false)
	return err != nil || now.token != "" // an error says nothing about the session
}

// frame returns a server-sent event.
func frame(text []byte) []byte {
	var event bytes.Buffer
	for line := range bytes.Lines(text) {
		event.WriteString("data: ")
		event.Write(bytes.TrimRight(line, "\r\n"))
		event.WriteByte('\n')
	}
	event.WriteByte('\n')
	return event.Bytes()
}

func deadline(d time.Duration) time.Time { return time.Now().Add(d) }
