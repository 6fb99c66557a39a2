// Package forecast estimates how fast something progresses, and when it will be done.
package forecast

import (
	"cmp"
	"strings"
	"time"
)

// Forecast is the rate at which links are made, and the number of links that come first.
type Forecast struct {
	PerSecond float64
	Before    int
}

// Duration returns how long it takes until this many rows have their links.
func (f Forecast) Duration(rows int) time.Duration {
	return time.Duration(float64(f.Before+rows) / f.PerSecond * float64(time.Second))
}

// Expired returns how many of the rows' links expire before the last one is made. The rows
// of each expiry, in minutes, are assumed to be spread evenly; those of expiry 0 have
// the default.
func (f Forecast) Expired(rows int, expiries map[int]int, byDefault int) int {
	span, early := float64(rows)/f.PerSecond, 0.0
	for minutes, n := range expiries {
		life := float64(cmp.Or(minutes, byDefault)) * 60
		if span > life {
			early += float64(n) * (span - life) / span
		}
	}
	return int(early)
}

// Late returns how many of the rows have no link after some time.
func (f Forecast) Late(rows int, after time.Duration) int {
	return min(rows, max(0, rows+f.Before-int(after.Seconds()*f.PerSecond)))
}

// Short formats a duration without zero minutes and seconds at its end.
func Short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Round rounds a duration to the accuracy of a forecast.
func Round(d time.Duration) time.Duration {
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	case d > time.Second:
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}
