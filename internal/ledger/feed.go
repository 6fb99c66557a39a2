package ledger

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

var feedScript = scripts.Script("feed.lua")

// FeedTarget says how many requests the bulk queue should hold, and for how long the feeding
// process leads.
type FeedTarget struct {
	MinQueued int           // fed requests that it should hold
	MaxQueued int           // however high the rate is
	Ahead     time.Duration // of the rate, between the two
	MaxFed    int           // of one call
	Lease     time.Duration // for which this process leads then
}

// FeedResult is the result of [Ledger.Feed].
type FeedResult struct {
	Leads     bool          // else another process feeds
	Refs      []request.Ref // turns whose tasks are to be enqueued
	PerSecond float64       // the rate in force
	// GateChanges are changes of the gate, "ms state reason", that no process has logged
	// yet. The caller logs them.
	GateChanges []string
}
