package ledger_test

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with the helpers of the tests of transitions.
type harness struct{ *ledgertest.Harness }

func newHarness(t testing.TB) *harness { return &harness{ledgertest.New(t)} }

func newHarnessOn(t testing.TB, server *redistest.Server) *harness {
	return &harness{ledgertest.NewOn(t, server)}
}

// stateTable reads the table out of the package's comment.
func stateTable(t *testing.T) (columns []string, rows [][]string) {
	file, err := parser.ParseFile(token.NewFileSet(), "ledger.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(file.Doc.Text()) {
		cells, isTable := strings.CutPrefix(line, "\t")
		if !isTable {
			continue
		}
		words := strings.Fields(cells)
		if columns == nil {
			columns = words
			continue
		}
		rows = append(rows, words)
	}
	if steps, paths := ledgertest.Steps(), ledgertest.Paths(); len(columns) != len(steps) || len(rows) != len(paths) {
		t.Fatalf("the table in the package's comment has %d columns and %d rows, the test has %d steps and paths to %d states",
			len(columns), len(rows), len(steps), len(paths))
	}
	return columns, rows
}

func TestStateTable(t *testing.T) {
	columns, rows := stateTable(t)
	for _, row := range rows {
		for i, column := range columns {
			from, want := row[0], row[i+1]
			t.Run(from+"/"+column, func(t *testing.T) {
				h := newHarness(t)
				h.Do("A-1", ledgertest.Paths()[from]...)
				h.ExpectState("A-1", from)
				events := h.EventCount()
				h.Do("A-1", column)

				state, publishes := strings.CutSuffix(want, "*")
				if state == "-" {
					state = from
				}
				h.ExpectState("A-1", state)
				if got := h.EventCount() - events; (got == 1) != publishes || got > 1 {
					t.Errorf("%d events were published, the table has %q", got, want)
				}
				h.ExpectCounters()
				h.ExpectOperatorLists(nil)
			})
		}
	}
}
