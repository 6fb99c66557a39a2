package workbook

import (
	"testing"

	"github.com/xuri/excelize/v2"
)

func TestCheckRow_LimitsTheNumberOfRows(t *testing.T) {
	if err := CheckRow(excelize.TotalRows, []string{"A-1"}, 0); err != nil {
		t.Error(err)
	}
	if err := CheckRow(excelize.TotalRows+1, []string{"A-1"}, 0); err == nil {
		t.Error("a sheet may have one more row than it can hold")
	}
}
