//go:build !failpoint

package failpoint

import "github.com/redis/go-redis/v9"

// Hit does nothing in this build.
func Hit(string) {}

// Watch does nothing in this build.
func Watch(redis.UniversalClient) {}
