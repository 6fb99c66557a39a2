//go:build !failpoint

package failpoint

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// Hit does nothing in this build.
func Hit(string) {}

// Watch does nothing in this build.
func Watch(redis.UniversalClient) {}

// Shorten returns d in this build.
func Shorten(d time.Duration) time.Duration { return d }
