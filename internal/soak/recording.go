package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// column is one measured quantity of one process, or of Redis.
type column struct {
	panel   string // of the plot, such as "goroutines"
	subject string // such as "worker 1"
	unit    string
	allowed allowance // zero: it may grow
}

func (c column) String() string { return c.panel + ": " + c.subject }

// The panels of the plot.
const (
	rates      = "rates"
	resident   = "resident memory"
	heap       = "heap"
	goroutines = "goroutines"
	files      = "open files"
	processor  = "processor"
	memory     = "memory of Redis"
	keys       = "keys of Redis"
	clients    = "connections to Redis"
	backlog    = "requests and events"
)

// Subjects of panels.
const (
	together   = "all processes"
	notToRedis = "all processes, but for connections to Redis"
)

const (
	mebibyte = 1 << 20
	poolSize = 64 // connections of a process to Redis, at most
)

// columns returns what is measured of some processes and of Redis, with what each may grow
// by. The allowances are chosen, above what varied in the runs of docs/soak.md.
func columns(processes []string) []column {
	const redis, kept = "Redis", "kept for days"
	list := []column{{rates, "links", "1/s", allowance{}}, {rates, "keys that expired", "1/s", allowance{}}}
	for _, name := range processes {
		list = append(list,
			column{resident, name, "MiB", allowance{8, 0.05}},
			column{heap, name, "MiB", allowance{8, 0.10}},
			column{goroutines, name, "", allowance{10, 0.05}},
			column{files, name, "", allowance{}},
			column{processor, name, "% of a core", allowance{}},
		)
	}
	return append(list,
		column{resident, redis, "MiB", allowance{}}, // of which the allocator keeps what was freed
		column{processor, redis, "% of a core", allowance{}},
		column{memory, "all else", "MiB", allowance{0.5, 0.05}},
		column{memory, kept, "MiB", allowance{}},
		column{keys, "requests and others", "", allowance{50, 0.05}},
		column{keys, "tasks", "", allowance{20, 0.10}},
		column{keys, kept, "", allowance{}},
		column{files, notToRedis, "", allowance{6, 0.05}},
		column{clients, together, "", allowance{poolSize * float64(len(processes)), 0}},
		column{backlog, "events in the stream", "", allowance{200, 0.05}},
		column{backlog, "waiting requests", "", allowance{50, 0.05}},
	)
}

// sample has the values of one moment, by panel and subject.
type sample map[[2]string]float64

// recording has the samples of a run.
type recording struct {
	columns []column
	at      []time.Duration // since the load began
	values  [][]float64     // by column; NaN: missing
}

func newRecording(processes []string) *recording {
	all := columns(processes)
	return &recording{columns: all, values: make([][]float64, len(all))}
}

func (rec *recording) add(at time.Duration, s sample) {
	rec.at = append(rec.at, at)
	for i, c := range rec.columns {
		value, ok := s[[2]string{c.panel, c.subject}]
		if !ok {
			value = math.NaN()
		}
		rec.values[i] = append(rec.values[i], value)
	}
}

// writer writes a recording as CSV, sample by sample, so that one that is interrupted is
// in the file.
type writer struct{ csv *csv.Writer }

func newWriter(to io.Writer, rec *recording) (*writer, error) {
	w := &writer{csv.NewWriter(to)}
	header := []string{"seconds"}
	for _, c := range rec.columns {
		name := c.String()
		if c.unit != "" {
			name += ", " + c.unit
		}
		header = append(header, name)
	}
	return w, w.row(header)
}

// last writes the last sample.
func (w *writer) last(rec *recording) error {
	n := len(rec.at) - 1
	row := []string{strconv.FormatFloat(rec.at[n].Seconds(), 'f', 1, 64)}
	for _, values := range rec.values {
		text := ""
		if !math.IsNaN(values[n]) {
			text = strconv.FormatFloat(values[n], 'f', -1, 64)
		}
		row = append(row, text)
	}
	return w.row(row)
}

func (w *writer) row(fields []string) error {
	if err := w.csv.Write(fields); err != nil {
		return fmt.Errorf("write the measurements: %w", err)
	}
	w.csv.Flush()
	return w.csv.Error()
}

// report prints the trend of every column, and returns what has grown.
func (rec *recording) report(out io.Writer) (problems []string) {
	fmt.Fprintf(out, "\n| medians of three equal parts, after a third as warm-up | first | middle | last | growth | allowed |\n| --- | --- | --- | --- | --- | --- |\n")
	for i, c := range rec.columns {
		t, ok := trendOf(rec.values[i])
		if !ok {
			continue // the run is too short to tell
		}
		allowed := "any"
		if c.allowed != (allowance{}) {
			allowed = fmt.Sprintf("%.4g", c.allowed.of(t.first))
		}
		unit := ""
		if c.unit != "" {
			unit = ", " + c.unit
		}
		fmt.Fprintf(out, "| %s%s | %.4g | %.4g | %.4g | %.3g | %s |\n", c, unit, t.first, t.middle, t.last, t.last-t.first, allowed)
		if c.allowed != (allowance{}) && t.grows(c.allowed) {
			problems = append(problems, fmt.Sprintf("%s grew from %.4g over %.4g to %.4g %s; up to %s more is allowed", c, t.first, t.middle, t.last, c.unit, allowed))
		}
	}
	return problems
}
