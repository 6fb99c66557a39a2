package input

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkRows reads plain CSV, the format of most imports.
func BenchmarkRows(b *testing.B) {
	const n = 20_000
	var text strings.Builder
	text.WriteString("application_id,redirect_url,full_name\n")
	for i := range n {
		fmt.Fprintf(&text, "P-%07d,https://shop.example/done?customer=%d,Zoë Quill %d\n", i, i, i)
	}
	path := filepath.Join(b.TempDir(), "people.csv")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	in := open(b, path)
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		rows := 0
		for row, err := range in.Rows() {
			if err != nil || row.Err != nil {
				b.Fatal(err, row.Err)
			}
			rows++
		}
		if rows != n {
			b.Fatalf("got %d rows, want %d", rows, n)
		}
	}
}
