//go:build long

package main

import "time"

const (
	bulkRows    = 1_000_000
	intakeRows  = 100_000
	forgotRows  = 6_000
	cancelRows  = 20_000
	stoppedRun  = 30_000
	replayed    = 3_000
	everyMoment = true
	wholeCore   = true // of the core suite, on every kind of Redis
	stoppedFor  = 5 * time.Second
	awayFor     = 30 * time.Second
)

const (
	hookedRequests = 20_000
	workerKills    = 12
	receiverAway   = time.Minute
	callbacksEnd   = 15 * time.Minute
)
