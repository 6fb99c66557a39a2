//go:build !long

package main

import "time"

const (
	bulkRows   = 20_000
	intakeRows = 3_000
	stoppedFor = 1500 * time.Millisecond // a worker, by SIGSTOP
	awayFor    = 5 * time.Second         // Redis
)

const (
	hookedRequests = 500
	workerKills    = 2
	receiverAway   = 3 * time.Second // it is dead
	callbacksEnd   = 5 * time.Minute // until everything is delivered
)
