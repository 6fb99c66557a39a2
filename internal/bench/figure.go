package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figure is one measured value.
type figure struct {
	name  string
	unit  string
	value float64
	// baseline is the same of what kyclink is compared with; 0: it is not compared.
	baseline float64
	bound    string  // "≤", "≥", or "" without a target
	target   float64 // of the value, or of its ratio to the baseline
	must     bool    // missing the target in any repetition is a failure
}

// measure returns what the target is for.
func (f figure) measure() float64 {
	if f.baseline != 0 {
		return f.value / f.baseline
	}
	return f.value
}

// against compares the figure with a baseline.
func (f figure) against(baseline float64) figure {
	f.baseline = baseline
	return f
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
	Name     string    `json:"figure"`
	Unit     string    `json:"unit,omitempty"`
	Values   []float64 `json:"values"`
	Median   float64   `json:"median"`
	Baseline float64   `json:"baseline,omitempty"` // the median
	Ratios   []float64 `json:"ratios,omitempty"`   // of the values to the baselines
	Ratio    float64   `json:"ratio,omitempty"`    // their median
	Bound    string    `json:"bound,omitempty"`
	Target   float64   `json:"target"`
	OK       bool      `json:"ok"`
	Broken   bool      `json:"broken,omitempty"`

	baselines []float64
}

// rows combines the repetitions of a scenario. A target is met if the median meets it; a
// target that must be met, if every value does.
func rows(repetitions [][]figure) []row {
	var all []row
	at := make(map[string]int)
	for _, figures := range repetitions {
		for _, f := range figures {
			i, known := at[f.name]
			if !known {
				i = len(all)
				at[f.name] = i
				all = append(all, row{Name: f.name, Unit: f.unit, Bound: f.bound})
			}
			r := &all[i]
			r.add(f)
			r.Broken = r.Broken || f.must && !f.met(f.measure())
			r.OK = f.met(r.measure()) && !r.Broken
		}
	}
	return all
}

func (r *row) add(f figure) {
	r.Values, r.Target = append(r.Values, f.value), f.target
	r.Median = median(r.Values)
	if f.baseline == 0 {
		return
	}
	r.baselines, r.Ratios = append(r.baselines, f.baseline), append(r.Ratios, f.measure())
	r.Baseline, r.Ratio = median(r.baselines), median(r.Ratios)
}

// measure returns what the target is for.
func (r *row) measure() float64 {
	if len(r.Ratios) > 0 {
		return r.Ratio
	}
	return r.Median
}

// mark says whether the target is met; it is empty without one.
func (r *row) mark() string {
	switch {
	case r.Broken:
		return "FAILED"
	case r.Bound == "":
		return ""
	case r.OK:
		return "yes"
	}
	return "no"
}

// cells returns the columns of the tables, see [columns].
func (r *row) cells() []string {
	name, target := r.Name, ""
	if r.Unit != "" {
		name += ", " + r.Unit
	}
	if r.Bound != "" {
		target = r.Bound + " " + number(r.Target)
		if len(r.Ratios) > 0 {
			target += " ×"
		}
	}
	value, baseline, ratio := spread(r.Median, r.Values), "", ""
	if len(r.Ratios) > 0 {
		baseline, ratio = number(r.Baseline), spread(r.Ratio, r.Ratios)
	}
	return []string{name, value, baseline, ratio, target, r.mark()}
}

// columns are the headings of the tables. The baseline is bare asynq, unless the figure
// says otherwise.
func columns() []string {
	return []string{"figure", "kyclink", "baseline", "ratio", "target", "met"}
}

// spread formats a median with the smallest and the largest value.
func spread(median float64, values []float64) string {
	if least, most := slices.Min(values), slices.Max(values); least < most {
		return fmt.Sprintf("%s (%s–%s)", number(median), number(least), number(most))
	}
	return number(median)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// aimed reports whether a row has a target or is compared: the others are details.
func (r *row) aimed() bool { return r.Bound != "" || len(r.Ratios) > 0 }

// table prints the rows of scenarios as one table. Details are printed only of a single one.
func table(out io.Writer, all ...result) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "  %s\n", strings.Join(columns(), "\t"))
	for _, m := range all {
		if len(all) > 1 {
			fmt.Fprintf(w, "%s\n", m.Scenario)
		}
		for _, r := range m.Rows {
			if len(all) > 1 && !r.aimed() {
				continue
			}
			fmt.Fprintf(w, "  %s\n", strings.Join(r.cells(), "\t"))
		}
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
