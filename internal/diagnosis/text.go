package diagnosis

import (
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/forecast"
)

// count returns a number of things, in the singular or the regular plural.
func count(n int, thing string) string { return counted(n, thing, thing+"s") }

// quoted returns a name for use in a command: in double quotes or, if a shell would evaluate
// some of it there, in single quotes.
func quoted(name string) string {
	if strings.ContainsAny(name, "$`\\\"!") {
		return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return `"` + name + `"`
}

// word returns an application ID for use in a command: as it is, unless a shell would
// evaluate some of it or the command would read it as a flag.
func word(id string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.:@%+=,/", c)
	}
	text := id
	if strings.ContainsFunc(id, func(c rune) bool { return !plain(c) }) {
		text = "'" + strings.ReplaceAll(id, "'", `'\''`) + "'"
	}
	if strings.HasPrefix(id, "-") {
		return "-- " + text
	}
	return text
}

// because returns a colon and a message, if there is one.
func because(message string) string {
	if message = strings.TrimRight(message, ". "); message == "" {
		return ""
	}
	return ": " + message
}

// clock returns a time of the day in UTC, with the date if it is another day.
func (s Snapshot) clock(t time.Time) string {
	t, now := t.UTC(), s.At.UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04 UTC")
}

func (s Snapshot) since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + s.clock(t)
}

// at returns "; <what> at <time>", unless there is no time.
func (s Snapshot) at(what string, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "; " + what + " at " + s.clock(t)
}

// ago returns how long ago a time was.
func (s Snapshot) ago(t time.Time) string { return forecast.Short(s.At.Sub(t).Round(time.Second)) }

// longest is the longest duration that is reported, about a century.
const longest = 100 * 365 * 24 * time.Hour

// takes returns how long a number of calls takes at the rate limit; 0 if the rate cannot be
// read.
func (s Snapshot) takes(calls int) time.Duration {
	rate, err := admission.ParseRate(s.Rate.Limit)
	if err != nil {
		return 0
	}
	return time.Duration(min(float64(calls)*float64(rate.Per)/float64(rate.N), float64(longest)))
}

// perSecond returns the rate limit in calls per second.
func (s Snapshot) perSecond() float64 {
	if one := s.takes(1); one > 0 {
		return float64(time.Second) / float64(one)
	}
	return 0
}

func about(d time.Duration) string { return "about " + forecast.Short(forecast.Round(d)) }

// are returns "1 delivery is" or "3 deliveries are".
func are(n int, one, more string) string { return counted(n, one, more) + " " + isAre(n) }

// were returns "1 delivery was" or "3 deliveries were".
func were(n int, one, more string) string {
	if n == 1 {
		return counted(n, one, more) + " was"
	}
	return counted(n, one, more) + " were"
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + more
}
