package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
)

// recorded returns a recording of a worker with n samples, one every 5 s.
func recorded(n int) *recording {
	rec := newRecording([]string{"worker 1"})
	for i := range n {
		rec.add(time.Duration(i)*5*time.Second, sample{
			{goroutines, "worker 1"}: float64(80 + i%7), {heap, "worker 1"}: float64(5 + i%11), {backlog, "waiting requests"}: float64(i % 3),
		})
	}
	return rec
}

func TestDrawPlot_HasPanelsLegendsAndOutages(t *testing.T) {
	file := filepath.Join(t.TempDir(), "soak.svg")
	outages := []period{{100 * time.Second, 120 * time.Second}, {300 * time.Second, 320 * time.Second}}
	fixture.Must(t, drawPlot(recorded(100), outages, file))
	svg, err := os.ReadFile(file)
	fixture.Must(t, err)
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no valid XML: %v", err)
		}
	}
	for _, text := range []string{"goroutines", "heap, MiB", "memory of Redis, MiB", "worker 1", "waiting requests", "minutes"} {
		if !strings.Contains(string(svg), text) {
			t.Errorf("the picture does not contain %q", text)
		}
	}
	const panels = 10
	if n := strings.Count(string(svg), "#F4D8D0"); n != panels*len(outages) {
		t.Errorf("%d areas are shaded, want %d for each of %d panels", n, len(outages), panels)
	}
}

func TestDrawPlot_WritesNothingWithoutSamples(t *testing.T) {
	file := filepath.Join(t.TempDir(), "soak.svg")
	fixture.Must(t, drawPlot(recorded(1), nil, file))
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a picture: %v", err)
	}
}

func TestRecording_ReportsGrowthAndWritesCSV(t *testing.T) {
	rec := recorded(0)
	for i := range 100 {
		rec.add(time.Duration(i)*time.Second, sample{
			{goroutines, "worker 1"}: float64(100 + i), {files, "worker 1"}: 20, {keys, "kept for days"}: float64(100 * i),
		})
	}
	var out strings.Builder
	problems := rec.report(&out)
	if len(problems) != 1 || !strings.HasPrefix(problems[0], "goroutines: worker 1 grew from 14") {
		t.Errorf("problems %q, want the growth of goroutines only", problems)
	}
	for _, row := range []string{"| open files: worker 1 | 20 | 20 | 20 | 0 | any |", "| keys of Redis: kept for days | "} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("the report does not contain %q:\n%s", row, out.String())
		}
	}

	var csv strings.Builder
	w, err := newWriter(&csv, rec)
	fixture.Must(t, err)
	rec.add(90*time.Minute, sample{{heap, "worker 1"}: 4.5, {goroutines, "worker 1"}: math.NaN()})
	fixture.Must(t, w.last(rec))
	lines := strings.Split(strings.TrimSpace(csv.String()), "\n")
	if want := "seconds,\"rates: links, 1/s\""; !strings.HasPrefix(lines[0], want) {
		t.Errorf("header %q, want %q", lines[0], want)
	}
	if want := "5400.0,,,,4.5" + strings.Repeat(",", 14); len(lines) != 2 || lines[1] != want {
		t.Errorf("rows %q, want %q", lines[1:], want)
	}
}
