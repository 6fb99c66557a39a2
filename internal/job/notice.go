package job

import (
	"fmt"
	"time"
)

const (
	noticeAfter = 2 * time.Second  // how long an obstacle lasts before it is reported
	clearAfter  = 15 * time.Second // how long it must be gone before that is reported
)

// notices reports an obstacle once, however often it comes and goes.
type notices struct {
	current        string    // obstacle
	since, cleared time.Time // when the obstacle came, and when it went
	notified       string    // the obstacle of the last message
	times          int       // how often it came
}

// next returns the message that is due, or "".
func (n *notices) next(at time.Time, obstacle string, why func() string) string {
	if obstacle != n.current {
		if n.current == "" && n.notified != obstacle || n.since.IsZero() {
			n.since = at
		}
		if obstacle == "" {
			n.cleared = at
		} else {
			n.times++
		}
		n.current = obstacle
	}
	switch {
	case obstacle == "" && n.notified == "" && at.Sub(n.cleared) >= clearAfter:
		*n = notices{}
	case obstacle != "" && obstacle != n.notified && at.Sub(n.since) >= noticeAfter:
		n.notified = obstacle
		return "no link is created now: " + why()
	case obstacle == "" && n.notified != "" && at.Sub(n.cleared) >= clearAfter:
		message := fmt.Sprintf("links are created again, after %v", n.cleared.Sub(n.since).Round(time.Second))
		if n.times > 1 {
			message += fmt.Sprintf(" with %d interruptions", n.times)
		}
		*n = notices{}
		return message
	}
	return ""
}
