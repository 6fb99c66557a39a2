package monitor

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
)

// question is asked once for all who want to know at the same time, so that however
// many come while Redis is away, one waits for it.
type question[T any] struct {
	within time.Duration
	ask    func(context.Context) (T, error)
	group  singleflight.Group
}

// answer waits no longer than the question is asked for.
func (q *question[T]) answer() (answer T, err error) {
	asked := q.group.DoChan("", func() (_ any, err error) {
		defer func() {
			if what := recover(); what != nil { // who looks must not end what is looked at
				err = fmt.Errorf("it panicked: %T", what)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), q.within)
		defer cancel()
		return q.ask(ctx)
	})
	select {
	case r := <-asked:
		answer, _ = r.Val.(T)
		return answer, r.Err
	case <-time.After(q.within):
		return answer, context.DeadlineExceeded
	}
}
