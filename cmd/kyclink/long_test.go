//go:build long

package main

import "time"

const (
	bulkRows   = 1_000_000
	intakeRows = 100_000
	stoppedFor = 5 * time.Second
	awayFor    = 30 * time.Second
)
