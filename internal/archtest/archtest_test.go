// Package archtest holds what the design says of the packages as tests: which
// may import which, and how long a file may be. There is nothing in it to
// import.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/kyclink/kyclink"

// everything stands for all our packages, but those that are for tests.
const everything = "*"

// stored stands for the packages that describe what Redis keeps.
const stored = "stored"

// nouns stands for the packages that read and change one kind of thing that Redis keeps.
const nouns = "nouns"

// expand replaces [stored] and [nouns] in a list of packages by the packages that they
// stand for.
func expand(list []string) []string {
	expanded := slices.Clone(list)
	if slices.Contains(list, stored) {
		expanded = append(expanded, "internal/request", "internal/keyspace", "internal/attempt", "internal/batchname",
			"internal/event", "internal/order", "internal/record", "internal/lua")
	}
	if slices.Contains(list, nouns) {
		expanded = append(expanded, "internal/ledger", "internal/account", "internal/activity", "internal/batch", "internal/deadletter",
			"internal/delivery", "internal/erasure", "internal/fleet", "internal/quarantine", "internal/results", "internal/storage")
	}
	return expanded
}

// arrows is the import table: what each package may import of ours. A package
// that is not listed may not exist, and a new arrow is a decision about the
// design, made here.
func arrows() map[string][]string {
	return map[string][]string{
		"cmd/kyclink": {everything, "internal/faceki/simulator"},
		"worker": {"tasks", "internal/admission", "internal/asynqx", "internal/dispatch", "internal/failpoint", "internal/fault",
			"internal/action", "internal/feeder", "internal/lifecycle", "internal/linktask", "internal/recorder", "internal/recovery", "internal/tracing", nouns, stored},
		"tasks":                     {"internal/linktask", "internal/fault", "internal/hostname", "internal/legible", "internal/tracing", stored},
		"internal/faceki":           {"tasks", "internal/fault", "internal/hostname", stored, "internal/retryafter"},
		"internal/faceki/simulator": {},
		"internal/ledger":           {"internal/fault", stored, "internal/admission", nouns},
		"internal/storage":          {stored, nouns},
		"internal/account":          {stored, "internal/admission", "internal/fleet", "internal/quarantine", "internal/results"},
		"internal/activity":         {"internal/fault", stored, "internal/admission"},
		"internal/batch":            {"tasks", "internal/fault", stored, "internal/admission"},
		"internal/deadletter":       {stored, "internal/admission", "internal/delivery"},
		"internal/delivery":         {"tasks", stored, "internal/admission"},
		"internal/erasure":          {stored, "internal/admission", "internal/batch", "internal/quarantine"},
		"internal/fleet":            {stored, "internal/admission"},
		"internal/quarantine":       {stored},
		"internal/results":          {"tasks", "internal/fault", stored, "internal/admission", "internal/batch"},
		"internal/admission":        {"internal/fault", stored},
		"internal/callback":         {"tasks", "internal/fault", "internal/hostname", stored, "internal/delivery", "internal/retryafter"},
		// What commands do.
		"internal/operator":   {"tasks", "internal/asynqx", "internal/dispatch", "internal/admission", "internal/diagnosis", "internal/fault", "internal/forecast", "internal/hostname", nouns, "internal/linktask", "internal/linkview", stored},
		"internal/action":     {"internal/admission", "internal/fault", "internal/operator", nouns, stored},
		"internal/connection": {"internal/config"},
		"internal/embedded":   {},
		"internal/forecast":   {},
		"internal/terminal":   {"internal/forecast", "internal/legible"},
		"internal/wiring":     {"internal/callback", "internal/delivery", "internal/faceki", "internal/fault", "worker"},
		// Files: their columns, reading, writing; the whole job on one; batches.
		"internal/column":   {"tasks", "internal/fault"},
		"internal/workbook": {},
		"internal/input":    {"tasks", "internal/column", "internal/workbook", "internal/legible"},
		"internal/output":   {"tasks", "internal/column", "internal/disk", "internal/input", "internal/workbook"},
		"internal/journal":  {stored, "internal/disk"},
		"internal/disk":     {},
		"internal/job": {"tasks", "internal/column", "internal/input", "internal/output", "internal/journal", "internal/fault",
			"internal/admission", "internal/diagnosis", nouns, "internal/legible", stored},
		"internal/bulk": {"tasks", "internal/column", "internal/input", "internal/output", "internal/linkview", "internal/fault",
			"internal/legible", stored},
		"internal/intake":    {"tasks", "internal/fault", stored},
		"internal/search":    {"internal/hostname", nouns, stored},
		"internal/api":       {"tasks", "internal/action", "internal/transfer", "internal/apikey", "internal/audit", "internal/admission", "internal/bulk", "internal/input", "internal/diagnosis", "internal/search", "internal/linkview", "internal/fault", "internal/operator", nouns, "internal/legible", "internal/peerlimit", "internal/tracing", stored},
		"internal/console":   {"tasks", "internal/action", "internal/bulk", "internal/column", "internal/input", "internal/output", "internal/transfer", "internal/apikey", "internal/audit", "internal/admission", "internal/diagnosis", "internal/operator", "internal/search", "internal/fault", "internal/hostname", nouns, "internal/legible", "internal/peerlimit", stored},
		"internal/peerlimit": {},
		"internal/transfer":  {"internal/apikey"},
		"internal/diagnosis": {"tasks", "internal/admission", "internal/fault", "internal/forecast", nouns, stored},
		"internal/monitor":   {"tasks", "internal/diagnosis", "internal/fault", "internal/tracing", nouns, stored},
		// What Redis keeps, and the scripts' composition.
		"internal/request":   {},
		"internal/apikey":    {"internal/keyspace", "internal/legible"},
		"internal/audit":     {"internal/keyspace", "internal/apikey", "internal/lua"},
		"internal/linktask":  {"internal/request", "internal/keyspace"},
		"internal/linkview":  {"tasks", "internal/request"},
		"internal/keyspace":  {"internal/request"},
		"internal/attempt":   {"internal/request"},
		"internal/batchname": {"internal/keyspace"},
		"internal/order":     {},
		"internal/record":    {"internal/keyspace", "internal/request"},
		"internal/event":     {"internal/batchname", "internal/fault", "internal/lua", "internal/request"},
		"internal/lua":       {},
		"internal/recorder":  {"internal/fault", "internal/ledger", stored},
		// What a worker consists of besides its lanes.
		"internal/asynqx":     {stored, "internal/quarantine"},
		"internal/dispatch":   {"tasks", "internal/asynqx", "internal/failpoint", "internal/lifecycle", "internal/delivery", "internal/tracing", stored},
		"internal/feeder":     {"internal/failpoint", "internal/ledger", "internal/linktask", stored},
		"internal/lifecycle":  {"internal/failpoint"},
		"internal/recovery":   {"internal/asynqx", "internal/linktask", "internal/delivery", "internal/quarantine", "internal/results", stored},
		"internal/failpoint":  {},
		"internal/fault":      {},
		"internal/retryafter": {},
		"internal/logging":    {},
		"internal/tracing":    {},
		"internal/otlp":       {"internal/tracing"},
		// Those whose Config it composes; tasks for a limit.
		"internal/config":    {"internal/admission", "internal/callback", "internal/faceki", "internal/hostname", "internal/logging", "internal/otlp", "tasks"},
		"internal/hostname":  {},
		"internal/legible":   {},
		"internal/redistest": {},
		"internal/fixture":   {"tasks", "internal/faceki/simulator", stored, "internal/redistest"},
		// An account with its stores, for the tests of the nouns.
		"internal/fixture/ledgertest": {"tasks", "internal/fault", stored, nouns, "internal/fixture", "internal/redistest"},
		"internal/stall":              {},
		"internal/child":              {},
		"internal/archtest":           {},
		"internal/browsertest":        {},
		"internal/doctest":            {},
		"internal/bench": {"tasks", stored, nouns, "internal/apikey", "internal/audit", "internal/child", "internal/redistest",
			"internal/stall", "internal/faceki/simulator"},
		"internal/chaos": {"tasks", stored, nouns, "internal/admission", "internal/asynqx", "internal/child", "internal/linktask", "internal/redistest",
			"internal/stall", "internal/faceki/simulator"},
		"internal/soak": {"tasks", stored, "internal/child", "internal/redistest", "internal/faceki/simulator"},
	}
}

// testArrows is what the tests of a package may import besides: itself, the
// fixture, the real servers to test against, and what they put together.
func testArrows() map[string][]string {
	servers := []string{"internal/redistest", "internal/faceki/simulator", "internal/fault", stored, "tasks"}
	together := []string{"internal/admission", nouns, "internal/faceki", "internal/logging"}
	noun := slices.Concat(servers, []string{"internal/admission", nouns, "internal/fixture/ledgertest"})
	return map[string][]string{
		"internal/archtest":         {"internal/redistest"},
		"cmd/kyclink":               {"internal/redistest", "internal/stall", "internal/doctest"},
		"internal/doctest":          {"internal/config"},
		"worker":                    append(servers, together...),
		"tasks":                     {"internal/redistest", "internal/linkview"},
		"internal/faceki":           servers,
		"internal/faceki/simulator": {"internal/faceki", "internal/fault", "tasks"},
		"internal/ledger":           noun,
		"internal/account":          noun,
		"internal/activity":         noun,
		"internal/batch":            noun,
		"internal/deadletter":       noun,
		"internal/delivery":         noun,
		"internal/erasure":          append(noun[:len(noun):len(noun)], "internal/audit"),
		"internal/fleet":            noun,
		"internal/operator":         noun,
		"internal/search":           noun,
		"internal/action":           noun,
		"internal/quarantine":       noun,
		"internal/results":          noun,
		"internal/admission":        {"internal/redistest"},
		"internal/output":           {"internal/fault"},
		"internal/journal":          append(append(servers, together...), "internal/recorder"),
		"internal/job":              append(append(servers, together...), "internal/recorder"),
		"internal/intake":           servers,
		"internal/apikey":           {"internal/redistest"},
		"internal/audit":            {"internal/redistest"},
		"internal/api":              append(append(servers, together...), "internal/wiring", "worker"),
		"internal/console":          append(append(servers, "internal/callback", "internal/fixture/ledgertest", "internal/api", "internal/column", "internal/workbook"), together...),
		"internal/browsertest":      append(append(servers, "internal/apikey"), together...),
		"internal/request":          {"internal/lua", "internal/keyspace", "internal/redistest"},
		"internal/lua":              {"internal/redistest", "internal/embedded"},
		"internal/config":           append(servers, "internal/stall"),
		"internal/logging":          servers,
		"internal/diagnosis":        append(noun, "internal/fault"),
		"internal/asynqx":           {"internal/linktask", "internal/redistest"},
		"internal/monitor":          {"internal/admission", "internal/redistest"},
	}
}

// confined names modules of others, and the only packages that may import them,
// in tests as well.
func confined() map[string][]string {
	return map[string][]string{
		"github.com/hibiken/asynq":            {"tasks", "worker", "internal/asynqx", "internal/dispatch", "internal/linktask", "cmd/kyclink", "internal/operator", "internal/bench"},
		"github.com/prometheus/client_golang": {"internal/monitor"},
		"gonum.org/v1/plot":                   {"internal/soak"}, // it stays out of the program
		"go.opentelemetry.io/otel/sdk":        {"internal/otlp", "internal/tracing", "internal/delivery"},
	}
}

// listed is what `go list` says of a package.
type listed struct {
	ImportPath, Dir                    string
	Imports, TestImports, XTestImports []string
	GoFiles, TestGoFiles, XTestGoFiles []string
	IgnoredGoFiles                     []string
	name                               string
}

func packages(t *testing.T) []listed {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// list runs `go list`.
var list = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-e",
		"-json=ImportPath,Dir,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, &stderr)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		p.name = strings.TrimPrefix(p.ImportPath, module+"/")
		all = append(all, p)
	}
	if len(all) < 5 {
		return nil, fmt.Errorf("go list found only %d packages", len(all))
	}
	return all, nil
})

func TestImports_FollowTheTable(t *testing.T) {
	for _, p := range packages(t) {
		allowed, known := arrows()[p.name]
		if !known {
			t.Errorf("%s is not in the import table, which says what it may import", p.name)
			continue
		}
		for _, imported := range p.Imports {
			if wrong := violation(p.name, imported, expand(allowed)); wrong != "" {
				t.Error(wrong)
			}
		}
		allowed = slices.Concat(allowed, testArrows()[p.name], []string{p.name, "internal/fixture"})
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if wrong := violation(p.name, imported, expand(allowed)); wrong != "" {
				t.Errorf("%s (in a test)", wrong)
			}
		}
	}
}

// violation says what is wrong with an import; nothing where it is allowed.
func violation(from, imported string, allowed []string) string {
	for path, only := range confined() {
		if within := imported == path || strings.HasPrefix(imported, path+"/"); within && !slices.Contains(only, from) {
			return fmt.Sprintf("%s imports %s, which only %s may", from, imported, strings.Join(only, ", "))
		}
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	forTests := slices.Contains([]string{"internal/redistest", "internal/faceki/simulator", "internal/doctest", "internal/fixture", "internal/fixture/ledgertest"}, target)
	if !ours || slices.Contains(allowed, target) || slices.Contains(allowed, everything) && !forTests {
		return ""
	}
	return fmt.Sprintf("%s imports %s: no such arrow in the table", from, target)
}

func TestViolation_NamesForbiddenImports(t *testing.T) {
	for _, tt := range []struct {
		from, imported string
		allowed        []string
		want           string
	}{
		{"worker", "time", nil, ""},
		{"worker", module + "/tasks", []string{"tasks"}, ""},
		{"worker", module + "/internal/ledger", []string{"tasks"}, "worker imports internal/ledger: no such arrow in the table"},
		{"cmd/kyclink", module + "/internal/ledger", []string{everything}, ""},
		{"cmd/kyclink", module + "/internal/redistest", []string{everything}, "cmd/kyclink imports internal/redistest: no such arrow in the table"},
		{"worker", "github.com/hibiken/asynq", nil, ""},
		{"internal/ledger", "github.com/hibiken/asynq", nil, "internal/ledger imports github.com/hibiken/asynq, which only tasks, worker, internal/asynqx, internal/dispatch, internal/linktask, cmd/kyclink, internal/operator, internal/bench may"},
		{"internal/ledger", "github.com/hibiken/asynq/x", nil, "internal/ledger imports github.com/hibiken/asynq/x, which only tasks, worker, internal/asynqx, internal/dispatch, internal/linktask, cmd/kyclink, internal/operator, internal/bench may"},
		{"internal/ledger", "github.com/hibiken/asynqmon", nil, ""},
	} {
		if got := violation(tt.from, tt.imported, tt.allowed); got != tt.want {
			t.Errorf("%s imports %s: got %q, want %q", tt.from, tt.imported, got, tt.want)
		}
	}
}
