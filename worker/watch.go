package worker

import (
	"errors"
	"fmt"
)

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
