package console

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/fault"
)

// chart is the last hour as a chart. Positions and sizes are percentages of the width or the
// height of a plot, so that text keeps its size on every screen.
type chart struct {
	Empty         bool // nothing happened: there is nothing to draw
	Created, Most int  // links: all, and the most in a minute
	Failed        int
	Minutes       []chartMinute // the oldest first
	Links, Faults scale
	Bars          []bar // links
	Ticks         []tick
	Series        []series // of the faults, the most frequent first
	Closed        []band
	Gate          []activity.Period // the sum of the periods of each reason
	Rows          []chartMinute     // of the table, the latest first
}

// chartMinute is a minute in the chart and in its table.
type chartMinute struct {
	activity.Minute
	Now    bool // the present minute, which is not over
	X      string
	Faults []series // without bars
	Closed []string // when the gate was closed, and why
}

// bar is the number of a minute, or a part of it.
type bar struct {
	X, Y, Height string
	Now          bool
}

// scale is the vertical axis of a plot.
type scale struct {
	Top    int
	Labels []string // from the top to the bottom, at equal distances
}

// tick is a quarter of an hour.
type tick struct {
	X  string
	At time.Time
}

// series is one reason of faults.
type series struct {
	Reason string
	N      int
	Bars   []bar
}

// band is a period in which the gate was closed.
type band struct {
	activity.Period
	X, Width string
}

const (
	minuteWidth = 100.0 / 60
	barInset    = 0.2 // on each side of a bar, whose width is in the template
	// leastHeight is that of a bar that is not zero, so that it can be seen.
	leastHeight = 2.0
	tickEvery   = 15 * time.Minute
)

func newChart(h activity.Hour) chart {
	c := chart{Empty: len(h.Closed) == 0}
	totals := map[fault.Reason]int{}
	most := 0 // faults
	for _, m := range h.Minutes {
		c.Created += m.Created
		c.Most = max(c.Most, m.Created)
		most = max(most, m.Failed())
		for reason, n := range m.Faults {
			totals[reason] += n
			c.Failed += n
		}
	}
	if c.Created+c.Failed > 0 {
		c.Empty = false
	}
	c.Series = sorted(totals)
	c.Links, c.Faults = newScale(c.Most), newScale(most)
	for i := range h.Minutes {
		m := newChartMinute(h, i)
		c.Minutes = append(c.Minutes, m)
		c.draw(i, m)
	}
	begins := h.Minutes[0].At
	for at := begins.Truncate(tickEvery); at.Before(begins.Add(time.Hour)); at = at.Add(tickEvery) {
		if at.After(begins) {
			c.Ticks = append(c.Ticks, tick{position(at.Sub(begins)), at})
		}
	}
	for _, p := range h.Closed {
		c.Gate = addPeriod(c.Gate, p)
		c.Closed = append(c.Closed, band{p, position(p.From.Sub(begins)), position(max(p.To.Sub(p.From), 10*time.Second))})
	}
	for _, m := range slices.Backward(c.Minutes) {
		if m.Created+m.Failed()+len(m.Closed) > 0 {
			c.Rows = append(c.Rows, m)
		}
	}
	return c
}

// draw adds the bars of a minute. Those of faults are above each other, in the same order in
// all minutes.
func (c *chart) draw(i int, m chartMinute) {
	x := percentage(float64(i)*minuteWidth + barInset)
	if m.Created > 0 {
		height := c.Links.height(m.Created)
		c.Bars = append(c.Bars, bar{x, percentage(100 - height), percentage(height), m.Now})
	}
	below := 0.0
	for j := range c.Series {
		part := &c.Series[j]
		n := m.Minute.Faults[fault.Reason(part.Reason)]
		if n == 0 {
			continue
		}
		height := min(c.Faults.height(n), 100-below)
		below += height
		part.Bars = append(part.Bars, bar{x, percentage(100 - below), percentage(height), m.Now})
	}
}

// Title describes a minute, beginning with its time in UTC.
func (m chartMinute) Title() string {
	text := clock(m.At)
	if m.Now {
		text += ", so far"
	}
	text += ": " + counted(m.Created, "link", "links")
	if n := m.Failed(); n > 0 {
		text += ", " + counted(n, "fault", "faults") + " (" + seriesText(m.Faults) + ")"
	}
	for _, closed := range m.Closed {
		text += ", gate closed " + closed
	}
	return text
}

// Text describes a period.
func (b band) Text() string { return closedText(b.Period) }

// Label describes the chart for those who cannot see it.
func (c chart) Label() string {
	text := fmt.Sprintf("Chart of the last hour: %s, at most %s in a minute; %s", counted(c.Created, "link", "links"), humanize.Comma(int64(c.Most)), counted(c.Failed, "fault", "faults"))
	if len(c.Series) > 0 {
		text += " (" + seriesText(c.Series) + ")"
	}
	for _, p := range c.Gate {
		text += "; " + closedText(p)
	}
	return text + "."
}

// addPeriod adds a period to the sum of those of its reason.
func addPeriod(sums []activity.Period, p activity.Period) []activity.Period {
	for i := range sums {
		if sums[i].Reason == p.Reason {
			sums[i].Closed += p.Closed
			sums[i].Times += p.Times
			return sums
		}
	}
	return append(sums, p)
}

func closedText(p activity.Period) string {
	text := "gate closed"
	if p.Reason == fault.Refused {
		text = "credentials refused"
	}
	if p.Times > 1 {
		text += " " + humanize.Comma(int64(p.Times)) + " times,"
	}
	text += " for " + duration(p.Closed)
	if p.Reason == fault.Refused {
		return text
	}
	return text + ": " + words(string(p.Reason))
}

func seriesText(all []series) string {
	var parts []string
	for _, s := range all {
		parts = append(parts, humanize.Comma(int64(s.N))+" "+words(s.Reason))
	}
	return strings.Join(parts, ", ")
}

// sorted returns faults by reason, the most frequent first.
func sorted(faults map[fault.Reason]int) []series {
	var all []series
	for reason, n := range faults {
		all = append(all, series{Reason: string(reason), N: n})
	}
	slices.SortFunc(all, func(a, b series) int {
		if a.N != b.N {
			return b.N - a.N
		}
		return strings.Compare(a.Reason, b.Reason)
	})
	return all
}

func newChartMinute(h activity.Hour, i int) chartMinute {
	m := chartMinute{Minute: h.Minutes[i], Now: i == len(h.Minutes)-1, X: percentage(float64(i) * minuteWidth)}
	m.Faults = sorted(m.Minute.Faults)
	ends := m.At.Add(time.Minute)
	for _, p := range h.Closed {
		if !p.From.Before(ends) || !p.To.After(m.At) {
			continue
		}
		from, to := p.From, p.To
		if from.Before(m.At) {
			from = m.At
		}
		if to.After(ends) {
			to = ends
		}
		text := duration(to.Sub(from)) + ", " + words(string(p.Reason))
		if p.Times > 1 {
			text = "at times, " + words(string(p.Reason))
		}
		m.Closed = append(m.Closed, text)
	}
	return m
}

// newScale returns an axis whose top is a round number that is at least most.
func newScale(most int) scale {
	top := 4
	for power := 1; top < most; power *= 10 {
		for _, n := range []int{1, 2, 4, 6, 8, 10, 16} {
			if top = n * power; top >= most && top >= 4 {
				break
			}
		}
	}
	return scale{top, []string{short(top), short(top / 2), "0"}}
}

// height returns the height of a number.
func (s scale) height(n int) float64 {
	return max(leastHeight, min(100, 100*float64(n)/float64(s.Top)))
}

// short returns a number with few characters.
func short(n int) string {
	if n < 10_000 {
		return humanize.Comma(int64(n))
	}
	if n < 1_000_000 {
		return humanize.Ftoa(math.Round(float64(n)/100)/10) + "k"
	}
	return humanize.Ftoa(math.Round(float64(n)/100_000)/10) + "M"
}

func percentage(x float64) string {
	return strconv.FormatFloat(math.Round(x*100)/100, 'f', -1, 64) + "%"
}

// position returns the place or the width of a time on the horizontal axis.
func position(d time.Duration) string { return percentage(100 * d.Seconds() / time.Hour.Seconds()) }
