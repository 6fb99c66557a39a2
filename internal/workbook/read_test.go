package workbook

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A value that comes in many parts costs what its length does.
func TestEachCell_CostsAreLinearInTheValue(t *testing.T) {
	const parts = 100_000
	sheet := "<row><c><v>" + strings.Repeat("1<!---->", parts) + "</v></c><c><v></v></c></row>"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var filled []bool
	if err := eachCell(strings.NewReader(sheet), func(_, _ int, _ string, has bool) { filled = append(filled, has) }); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if !slices.Equal(filled, []bool{true, false}) {
		t.Errorf("the cells are filled: %v", filled)
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > parts*1000 {
		t.Errorf("it took %d bytes for a cell of %d", cost, parts)
	}
}
