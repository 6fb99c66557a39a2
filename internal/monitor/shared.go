package monitor

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
)

// sharedRead reads a value once for all goroutines that want it at the same time, so
// that only one of them waits for a Redis that does not answer.
type sharedRead[T any] struct {
	within time.Duration
	read   func(context.Context) (T, error)
	group  singleflight.Group
}

// value waits no longer than the limit, even if read ignores its context.
func (s *sharedRead[T]) value() (value T, err error) {
	result := s.group.DoChan("", func() (_ any, err error) {
		defer func() {
			if reason := recover(); reason != nil { // monitoring must not end the process
				err = fmt.Errorf("panic: %T", reason)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), s.within)
		defer cancel()
		return s.read(ctx)
	})
	select {
	case r := <-result:
		value, _ = r.Val.(T)
		return value, r.Err
	case <-time.After(s.within):
		return value, context.DeadlineExceeded
	}
}
