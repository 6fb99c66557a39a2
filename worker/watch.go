package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Meter counts what a worker does. It is told of each request, by many goroutines at
// a time, and must not hold them up.
type Meter interface {
	// Admitted is a turn that may be called now, so long after its task was taken.
	Admitted(lane request.Lane, after time.Duration)
	// Attempt is a call that is over; f is nil where it made a link.
	Attempt(a attempt.Attempt, f *fault.Fault)
	// Delivery is an attempt to deliver a callback, and what became of that.
	Delivery(reply delivery.Reply, status delivery.Status, took time.Duration)
	// Mended is what the sweep mended, so many of a kind.
	Mended(kind string, n int)
}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Admitted(request.Lane, time.Duration)                    {}
func (noMeter) Attempt(attempt.Attempt, *fault.Fault)                   {}
func (noMeter) Delivery(delivery.Reply, delivery.Status, time.Duration) {}
func (noMeter) Mended(string, int)                                      {}

// Ready says, for people, why this worker takes no requests; nil while it does. It
// is safe for concurrent use.
func (w *Worker) Ready() error {
	switch {
	case w.pipe.stopping.Err() != nil:
		return errors.New("the worker is stopping")
	case !w.started.Load():
		return errors.New("the worker has not joined the fleet yet")
	}
	if queue := w.paused.Load(); queue != nil {
		return fmt.Errorf("asynq's queue %s is paused", *queue)
	}
	return nil
}
