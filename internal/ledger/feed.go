package ledger

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

var feedScript = scripts.Script("feed.lua")

// FeedTarget says how many requests the bulk queue should hold, and for how long the feeding
// process leads.
type FeedTarget struct {
	MinQueued int           // fewest fed requests in the queue
	MaxQueued int           // most fed requests in the queue
	Ahead     time.Duration // how long the fed requests should last at the rate in force, within these bounds
	MaxFed    int           // most requests of one call
	Lease     time.Duration // how long this process leads after the call
}

// FeedResult is the result of [Ledger.Feed].
type FeedResult struct {
	Leads     bool          // this process is the leader, and feeds
	Refs      []request.Ref // turns whose tasks the caller enqueues
	PerSecond float64       // the rate in force
	Bundles   bool          // every live worker handles bundles
	// GateChanges are changes of the gate, "ms state reason", that no process has logged
	// yet. The caller logs them.
	GateChanges []string
}
