package main

import (
	"strings"
	"testing"
)

const invented = `# Changelog

## [Unreleased]

### Added

- A teapot.

## [1.1.0] - 2026-02-03

## [1.0.0] - 2026-01-02

- The kettle, see [the manual](docs/kettle.md).

[Unreleased]: https://shop.example/compare/v1.1.0...HEAD
[1.0.0]: https://shop.example/releases/v1.0.0
`

func TestSection_IsWhatTheChangelogSays(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"Unreleased": "### Added\n\n- A teapot.\n",
		"1.0.0":      "- The kettle, see [the manual](docs/kettle.md).\n",
	} {
		if got, err := section(invented, version); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", version, got, err, want)
		}
	}
	for version, want := range map[string]string{"1.1.0": "is empty", "1.0": "has no section", "2.0.0": "has no section"} {
		if got, err := section(invented, version); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, want an error with %q", version, got, err, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
