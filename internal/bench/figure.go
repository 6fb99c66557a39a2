package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
)

// figure is one measured value.
type figure struct {
	name   string
	unit   string
	value  float64
	bound  string // "≤", "≥", or "" without a target
	target float64
	must   bool // missing the target in any repetition is a failure
}

func (f figure) met(value float64) bool {
	switch f.bound {
	case "≤":
		return value <= f.target
	case "≥":
		return value >= f.target
	}
	return true
}

func atMost(name, unit string, value, target float64) figure {
	return figure{name: name, unit: unit, value: value, bound: "≤", target: target}
}

func atLeast(name, unit string, value, target float64) figure {
	return figure{name: name, unit: unit, value: value, bound: "≥", target: target}
}

// info returns a figure without a target.
func info(name, unit string, value float64) figure {
	return figure{name: name, unit: unit, value: value}
}

func must(f figure) figure {
	f.must = true
	return f
}

// row is a figure with its values in all repetitions of a scenario.
type row struct {
	Scenario string    `json:"scenario"`
	Name     string    `json:"figure"`
	Unit     string    `json:"unit,omitempty"`
	Values   []float64 `json:"values"`
	Median   float64   `json:"median"`
	Bound    string    `json:"bound,omitempty"`
	Target   float64   `json:"target"`
	OK       bool      `json:"ok"`
	Broken   bool      `json:"broken,omitempty"`
}

// rows combines the repetitions of a scenario. A target is met if the median meets it; a
// target that must be met, if every value does.
func rows(scenario string, repetitions [][]figure) []row {
	var all []row
	at := make(map[string]int)
	for _, figures := range repetitions {
		for _, f := range figures {
			i, known := at[f.name]
			if !known {
				i = len(all)
				at[f.name] = i
				all = append(all, row{Scenario: scenario, Name: f.name, Unit: f.unit, Bound: f.bound})
			}
			r := &all[i]
			r.Values, r.Target = append(r.Values, f.value), f.target
			r.Median = median(r.Values)
			r.Broken = r.Broken || f.must && !f.met(f.value)
			r.OK = f.met(r.Median) && !r.Broken
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// table prints rows as a table.
func table(out io.Writer, all []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, r := range all {
		value, target, mark := number(r.Median), "", ""
		if least, most := slices.Min(r.Values), slices.Max(r.Values); least < most {
			value += fmt.Sprintf(" (%s–%s)", number(least), number(most))
		}
		if r.Bound != "" {
			target, mark = r.Bound+" "+number(r.Target), "ok"
		}
		switch {
		case r.Broken:
			mark = "FAILED"
		case !r.OK:
			mark = "MISSED"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", r.Name, value, r.Unit, target, mark)
	}
	return w.Flush()
}

// number formats a value with three significant digits.
func number(v float64) string {
	v = math.Round(v*1e6) / 1e6
	switch abs := math.Abs(v); {
	case v == math.Trunc(v) || abs >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
