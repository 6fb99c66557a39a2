//go:build !long

package main

import "time"

const (
	bulkRows    = 4_000
	intakeRows  = 1_500
	forgotRows  = 2_000 // more than a command erases before it is killed
	cancelRows  = 8_000
	stoppedRun  = 8_000 // more than a run processes before its signal
	replayed    = 1_500
	everyMoment = false
	wholeCore   = false
	stoppedFor  = 1500 * time.Millisecond // the suspension of a worker
	awayFor     = 5 * time.Second         // the absence of Redis
)

const (
	hookedRequests = 500
	workerKills    = 2
	receiverAway   = 3 * time.Second // the receiver is down
	callbacksEnd   = 5 * time.Minute // the limit for all deliveries
)
