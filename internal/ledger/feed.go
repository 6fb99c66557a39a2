package ledger

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

var feedScript = scripts.Script("feed.lua")

// Feed is how the bulk lane is to be filled.
type FeedTarget struct {
	MinQueued int           // fed requests that it should hold
	MaxQueued int           // however high the rate is
	Ahead     time.Duration // of the rate, between the two
	MaxFed    int           // of one call
	Lease     time.Duration // for which this process leads then
}

// Fed is what was fed.
type FeedResult struct {
	Leads     bool          // else another process feeds
	Refs      []request.Ref // turns whose tasks are to be enqueued
	PerSecond float64       // the rate in force
	// Changes of the gate, "ms state reason", which no process has logged yet:
	// this one is to.
	GateChanges []string
}
