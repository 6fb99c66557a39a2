//go:build !long

package main

import "time"

const (
	bulkRows    = 4_000
	intakeRows  = 1_500
	forgotRows  = 2_000 // more than one command forgets before it is killed
	cancelRows  = 8_000
	stoppedRun  = 8_000 // more than a run makes before its signal comes
	replayed    = 1_500
	everyMoment = false
	stoppedFor  = 1500 * time.Millisecond // a worker, by SIGSTOP
	awayFor     = 5 * time.Second         // Redis
)

const (
	hookedRequests = 500
	workerKills    = 2
	receiverAway   = 3 * time.Second // it is dead
	callbacksEnd   = 5 * time.Minute // until everything is delivered
)
