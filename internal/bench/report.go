package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	_ "embed"
)

// result is the result of a scenario.
type result struct {
	Scenario string `json:"scenario"`
	About    string `json:"about"`
	provenance
	Error string `json:"error,omitempty"` // why it failed
	Rows  []row  `json:"rows"`
}

// provenance says on what, and when, a scenario was measured.
type provenance struct {
	Hardware string `json:"hardware"`
	Software string `json:"software"`
	Commit   string `json:"commit"`         // of the kyclink that was measured
	Date     string `json:"date"`           // 2006-01-02
	Size     string `json:"size,omitempty"` // short or long; empty for make bench
}

// report is the content of the JSON file: the scenarios in their order.
type report struct {
	Scenarios []result `json:"scenarios"`
}

// describe returns the present run.
func (b *suite) describe(ctx context.Context) provenance {
	output := func(name string, args ...string) string {
		out, _ := exec.CommandContext(ctx, name, args...).Output() //nolint:gosec // the program under test, or redis-server
		return string(out)
	}
	found := func(pattern, text string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return strings.TrimSpace(m[1])
		}
		return "unknown"
	}
	hardware := fmt.Sprintf("%d cores", runtime.NumCPU())
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		hardware += ", " + found(`model name\s*: (.+)`, string(cpu))
	}
	return provenance{
		Hardware: hardware,
		Software: fmt.Sprintf("%s/%s, %s, Redis %s", runtime.GOOS, runtime.GOARCH, runtime.Version(), found(`v=(\S+)`, output("redis-server", "--version"))),
		Commit:   found(`version\s+(\S+)`, output(b.kyclink, "version")),
		Date:     time.Now().UTC().Format(time.DateOnly),
		Size:     []string{"short", "", "long"}[b.size],
	}
}

// readReport reads a file; one that does not exist is an empty report.
func readReport(file string) (r report, err error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the figures of earlier runs: %w", err)
	}
	return r, nil
}

// with returns the report with the results of a run. Scenarios that were not run keep their
// earlier results.
func (r report) with(results []result) report {
	var all report
	for _, s := range scenarios() {
		for _, from := range [][]result{results, r.Scenarios} {
			if i := slices.IndexFunc(from, func(m result) bool { return m.Scenario == s.name }); i >= 0 {
				all.Scenarios = append(all.Scenarios, from[i])
				break
			}
		}
	}
	return all
}

// write adds results to the report in a file.
func write(file string, results []result) error {
	before, err := readReport(file)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(before.with(results), "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644) //nolint:gosec // it is documentation
}

//go:embed page.md
var pageFrame string

// page returns docs/benchmarks.md with the tables of a report, one for each run.
func (r report) page() string {
	var tables bytes.Buffer
	for i, m := range r.Scenarios {
		if i == 0 || m.provenance != r.Scenarios[i-1].provenance {
			fmt.Fprintf(&tables, "\nMeasured on %s at `%s`, on %s (%s).\n\n", m.Date, m.Commit, m.Hardware, m.Software)
			if m.Size != "" {
				fmt.Fprintf(&tables, "The scenarios were those of a %s run.\n\n", m.Size)
			}
			fmt.Fprintf(&tables, "| %s |\n|%s\n", strings.Join(columns(), " | "), strings.Repeat(" --- |", len(columns())))
		}
		fmt.Fprintf(&tables, "| **`%s`**: %s | | | | | |\n", m.Scenario, m.About)
		if m.Error != "" {
			fmt.Fprintf(&tables, "| failed: %s | | | | | |\n", strings.ReplaceAll(m.Error, "\n", " "))
		}
		for _, one := range m.Rows {
			if one.aimed() {
				fmt.Fprintf(&tables, "| %s |\n", strings.Join(one.cells(), " | "))
			}
		}
	}
	return strings.Replace(pageFrame, "<!-- figures -->\n", strings.TrimPrefix(tables.String(), "\n"), 1)
}
