package ledger

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

var feedScript = scripts.Script("feed.lua")

// Feed is how the bulk lane is to be filled.
type Feed struct {
	AtLeast int           // fed requests that it should hold
	AtMost  int           // however high the rate is
	Ahead   time.Duration // of the rate, between the two
	Most    int           // of one call
	Lease   time.Duration // for which this process leads then
}

// Fed is what was fed.
type Fed struct {
	Leads     bool          // else another process feeds
	Refs      []request.Ref // turns whose tasks are to be enqueued
	PerSecond float64       // the rate in force
	// Changes of the gate, "ms state reason", which no process has logged yet:
	// this one is to.
	Changes []string
}

// Trim is what a look at the results stream found and did.
type Trim struct {
	// Length is how many events there are now, of Cap at most.
	Length, Cap int
	// Aged is how many went because of their age, Dropped how many because of the cap.
	Aged, Dropped int
	// From is when the first of those that were dropped came into the stream.
	From time.Time
	// Lost names the live groups that had not acknowledged all of what was dropped;
	// Slowest the one that is furthest behind, empty where none is.
	Lost    []string
	Slowest string
}
