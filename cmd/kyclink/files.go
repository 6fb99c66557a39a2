package main

import (
	"fmt"
	"math"
	"syscall"

	"github.com/kyclink/kyclink/internal/config"
)

const (
	// lanes of a worker call FaceKi, and each call may have a connection of its own.
	lanes = 2
	// embeddedPool is how many connections the client of the embedded Redis has.
	embeddedPool = 100
)

// workerFiles is how many files a process that makes links has open at most.
func workerFiles(cfg config.Config) int {
	calls := lanes * slotsOf(cfg.Work)
	if cfg.EmbeddedRedis() {
		return 2*embeddedPool + calls // both ends are in this process
	}
	return cfg.Redis.Connections() + opsConnections + calls
}

// checkFiles refuses to start where the process may open fewer files than it needs,
// besides those that every process has open: it would hang as soon as it is busy.
func checkFiles(needed int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if needed += otherFiles; int(min(limit.Cur, math.MaxInt32)) >= needed {
		return nil
	}
	return &config.Error{Problems: []string{fmt.Sprintf("ulimit -n is %d, and this command needs up to %d open files; raise it "+
		"(LimitNOFILE= in systemd), or lower KYCLINK_CONCURRENCY, or pool_size in KYCLINK_REDIS_URL", limit.Cur, needed)}}
}
