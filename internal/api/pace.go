package api

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limits is how often each key may ask.
type limits struct {
	perSecond float64
	mu        sync.Mutex
	of        map[string]*rate.Limiter // by a key's id: of keys that there are
}

func newLimits(perSecond float64) *limits {
	return &limits{perSecond: perSecond, of: map[string]*rate.Limiter{}}
}

func (l *limits) allow(id string) bool {
	l.mu.Lock()
	limiter, ok := l.of[id]
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), int(2*l.perSecond))
		l.of[id] = limiter
	}
	l.mu.Unlock()
	return limiter.Allow()
}

// pace is what is left of the patience with one end of a connection: it runs out
// while nothing moves, and comes back with every byte.
type pace struct{ left time.Duration }

func newPace() *pace { return &pace{patience} }

// moved takes what it took off, and adds what it brought.
func (p *pace) moved(n int, took time.Duration) {
	p.left = min(patience, p.left-took+time.Duration(n)*time.Second/leastPace)
}

// pacedReader reads a body that is streamed, as long as it moves. It waits for
// the client only: what its caller does in between costs nothing.
type pacedReader struct {
	io.Reader
	control *http.ResponseController
	pace    *pace
	err     error // the first, but for the end
}

func (r *pacedReader) Read(p []byte) (int, error) {
	began := time.Now()
	_ = r.control.SetReadDeadline(began.Add(r.pace.left)) // see call.WriteHeader
	n, err := r.Reader.Read(p)
	r.pace.moved(n, time.Since(began))
	if err != nil && !errors.Is(err, io.EOF) {
		err = notRead(err)
		r.err = cmp.Or(r.err, err)
	}
	return n, err
}

// pacedWriter is the same for an answer.
type pacedWriter struct {
	io.Writer
	control *http.ResponseController
	pace    *pace
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	began := time.Now()
	_ = w.control.SetWriteDeadline(began.Add(w.pace.left))
	n, err := w.Writer.Write(p)
	w.pace.moved(n, time.Since(began))
	return n, err
}
