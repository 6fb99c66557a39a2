//go:build !long

package main

import "time"

const (
	bulkRows   = 50_000
	intakeRows = 3_000
	stoppedFor = 1500 * time.Millisecond // a worker, by SIGSTOP
	awayFor    = 5 * time.Second         // Redis
)
