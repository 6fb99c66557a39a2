package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/storage"
)

func TestQuarantine_IsCountedAndListed(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	stores := storage.Of(server.Client(t), "default")
	linesOf := func(want int, args ...string) []string {
		code, stdout, stderr := kyclink(t, settings, args...)
		if code != want || code == 0 && stderr != "" {
			t.Fatalf("%v: exit code %d, %s", args, code, stderr)
		}
		return strings.FieldsFunc(stdout+stderr, func(r rune) bool { return r == '\n' })
	}
	if lines := linesOf(0, "account", "status"); strings.Contains(strings.Join(lines, "\n"), "quarantined") {
		t.Errorf("it shows an empty quarantine: %q", lines)
	}
	if lines := linesOf(0, "failed", "list", "--aside"); len(lines) != 0 {
		t.Errorf("lists %q", lines)
	}
	const many = 250
	for i := range many {
		err := stores.Quarantine.Add(t.Context(), quarantine.Entry{Queue: "an invented queue", Task: fmt.Sprint("T-", i), Why: "it is nonsense", Raw: []byte("\x00raw")})
		if err != nil {
			t.Fatal(err)
		}
	}
	if lines := linesOf(0, "account", "status"); !strings.Contains(strings.Join(lines, "\n"), "250 that no worker could decode: kyclink failed list --quarantined") {
		t.Errorf("account status does not show it: %q", lines)
	}
	var status struct {
		Quarantined int `json:"put_aside"`
	}
	if err := json.Unmarshal([]byte(strings.Join(linesOf(0, "account", "status", "--json"), "")), &status); err != nil || status.Quarantined != many {
		t.Errorf("its JSON counts %d, %v", status.Quarantined, err)
	}
	if got, want := linesOf(0, "failed", "list", "--aside"), linesOf(0, "failed", "list", "--quarantined"); !slices.Equal(got, want) {
		t.Errorf("--aside, the former name, lists %d entries and --quarantined %d", len(got), len(want))
	}
	lines := linesOf(0, "failed", "list", "--quarantined")
	if len(lines) != many {
		t.Fatalf("%d are listed, want %d", len(lines), many)
	}
	for i, line := range lines {
		var p quarantine.Entry
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Task != fmt.Sprint("T-", many-1-i) || string(p.Raw) != "\x00raw" || p.At.IsZero() {
			t.Fatalf("line %d is %q, %v", i, line, err)
		}
	}
	linesOf(exitUsage, "failed", "list", "--quarantined", "--reason", "poison")
}
