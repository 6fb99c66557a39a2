package console

import (
	"encoding/json"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/legible"
)

// functions are those of the templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"number":   func(n int) string { return humanize.Comma(int64(n)) },
		"counted":  counted,
		"speed":    speed,
		"duration": duration,
		"millis":   func(d time.Duration) string { return humanize.Comma(d.Milliseconds()) + " ms" },
		"bytes":    func(n int64) string { return humanize.IBytes(uint64(max(0, n))) },
		"percent":  func(share float64) string { return fmt.Sprintf("%.0f %%", share*100) },
		"utc":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"rfc3339":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"since":    func(now, t time.Time) string { return duration(max(0, now.Sub(t))) },
		"ago":      ago,
		"until":    func(now, t time.Time) string { return duration(max(0, t.Sub(now))) },
		"line":     legible.Line,
		"text":     legible.Text,
		"pretty":   pretty,
		"words":    words,
		"clock":    clock,
		"closed":   closedText,
		"remedy":   remedyOf,
		"scope":    scopeMeaning,
	}
}

// scopeMeaning says what a scope permits.
func scopeMeaning(s apikey.Scope) string {
	return map[apikey.Scope]string{
		apikey.Enqueue: "request links and import batches",
		apikey.Read:    "see everything, and sign in to the console",
		apikey.Operate: "pause, resume, retry, cancel, erase, set the rate, create and revoke keys",
	}[s]
}

// words returns a name of the contract as words.
func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

// clock returns the minute of a time. Browsers replace it by their local time.
func clock(t time.Time) string { return t.UTC().Format("15:04 UTC") }

// speed returns a number of links per second, with the unit that suits it.
func speed(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond >= 100:
		return humanize.Comma(int64(perSecond + 0.5))
	case perSecond >= 0.1:
		return fmt.Sprintf("%.1f", perSecond)
	}
	return fmt.Sprintf("%.3f", perSecond)
}

// ago returns how long ago something was.
func ago(now, t time.Time) string {
	if d := now.Sub(t); d >= 2*time.Second {
		return duration(d) + " ago"
	}
	return "just now"
}

// duration returns a duration with its two largest units.
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "under 1s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return pair(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return pair(d, time.Hour, "h", time.Minute, "m")
	}
	return pair(d, day, "d", time.Hour, "h")
}

func pair(d, large time.Duration, largeUnit string, small time.Duration, smallUnit string) string {
	text := fmt.Sprintf("%d%s", d/large, largeUnit)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d%s", rest, smallUnit)
	}
	return text
}

// quoted returns a name that the browser sent, which may be long, in quotes.
func quoted(name string) string { return strconv.Quote(legible.Shorten(name)) }

// counted returns "1 request" or "3 requests".
func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + more
}

// pretty returns JSON for people.
func pretty(raw json.RawMessage) string {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return legible.Text(string(raw))
	}
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // the template does that
	e.SetIndent("", "  ")
	if e.Encode(value) != nil {
		return legible.Text(string(raw))
	}
	return legible.Text(strings.TrimSpace(text.String()))
}

// remedy is the page of the console on which a person can act.
type remedy struct{ Href, Label string }

// remedyOf returns the page for a situation, without an address if there is none.
func remedyOf(code diagnosis.Code) remedy {
	switch code { //nolint:exhaustive // the others are not mended in the console
	case diagnosis.AccountPaused:
		return remedy{"/account", "Open the account"}
	case diagnosis.BatchPaused, diagnosis.RowsRefused:
		return remedy{"/batches", "Open the batches"}
	case diagnosis.Held:
		return remedy{"/held", "Show held requests"}
	case diagnosis.FailedRequests:
		return remedy{"/failed", "Show failed requests"}
	case diagnosis.CallbacksGivenUp, diagnosis.CallbacksRetrying:
		return remedy{"/callbacks", "Show the callbacks"}
	case diagnosis.CredentialsRefused, diagnosis.NoCredit, diagnosis.LimitReached, diagnosis.FaceKiOutage, diagnosis.FaceKiThrottles, diagnosis.GateClosed:
		return remedy{"/account", "Show the gate's history"}
	}
	return remedy{}
}
