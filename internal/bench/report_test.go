package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var updateDocs = flag.Bool("update-docs", false, "write docs/benchmarks.md")

func TestBenchmarksPage_MatchesTheFigures(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	all, err := readReport(filepath.Join(docs, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	page, file := all.page(), filepath.Join(docs, "benchmarks.md")
	if *updateDocs {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != page {
		t.Error("docs/benchmarks.md is not the page of docs/benchmarks.json; write it with make docs")
	}
}

// A run of some scenarios leaves the figures of the others as they are.
func TestWrite_KeepsTheFiguresOfOtherScenarios(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures.json")
	old, present := provenance{Commit: "v1", Date: "2026-11-01"}, provenance{Commit: "v2", Date: "2026-11-30"}
	for _, results := range [][]result{
		{{Scenario: "drain", provenance: old, Rows: rows([][]figure{{atLeast("links", "1/s", 5, 1).against(4)}})}, {Scenario: "trips", provenance: old}},
		{{Scenario: "rate-5", provenance: present, Error: "it\nfailed"}, {Scenario: "trips", provenance: present}},
	} {
		if err := write(file, results); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readReport(file)
	if err != nil || len(got.Scenarios) != 3 {
		t.Fatalf("the file has %+v, %v; want three scenarios", got, err)
	}
	for i, want := range []string{"drain v1", "trips v2", "rate-5 v2"} {
		if m := got.Scenarios[i]; m.Scenario+" "+m.Commit != want {
			t.Errorf("scenario %d is %s of %s, want %s", i, m.Scenario, m.Commit, want)
		}
	}
	page := got.page()
	for _, want := range []string{"Measured on 2026-11-01 at `v1`", "Measured on 2026-11-30 at `v2`", "| links, 1/s | 5 | 4 | 1.25 | ≥ 1 × | yes |", "failed: it failed"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not contain %q:\n%s", want, page)
		}
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(file, nil); err == nil {
		t.Error("a damaged file was replaced without an error")
	}
}
