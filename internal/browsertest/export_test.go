//go:build browser

package browsertest

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/xuri/excelize/v2"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

// downloads makes the browser store the files of the tab in a directory, under the names that
// the server gives them.
func (b *tab) downloads() (dir string) {
	b.Helper()
	dir = b.TempDir()
	fixture.Must(b, b.in(func(ctx context.Context) error {
		_, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
			Behavior: browser.SetDownloadBehaviorBehaviorAllow, BrowserContextID: chromedp.FromContext(ctx).BrowserContextID, DownloadPath: dir,
		})
		return err
	}))
	return dir
}

// downloaded waits for a file. The browser gives it its name when it is complete.
func downloaded(t *testing.T, path string) []byte {
	t.Helper()
	var content []byte
	fixture.Eventually(t, filepath.Base(path)+" arrives", func() (ok bool) {
		var err error
		content, err = os.ReadFile(path)
		return err == nil
	})
	return content
}

func TestExport_ArrivesAsCSVAndWorkbook(t *testing.T) {
	s := newSystem(t, simulator.Script{Rules: []simulator.Rule{{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}}}})
	s.worker()
	s.importRows("spring", append(numbered("A", 1, 30), numbered("bad", 1, 2)...)...)
	s.awaitCount("spring", request.Created, 30)
	s.awaitCount("spring", request.Failed, 2)
	b := s.signedIn(apikey.Read)
	dir := b.downloads()
	b.visit("/batch?name=spring")
	b.run(mark)
	b.click("button[value=csv]")
	rows, err := csv.NewReader(bytes.NewReader(downloaded(t, filepath.Join(dir, "spring-links.csv")))).ReadAll()
	s.Must(err)
	s.expectExported(rows)
	b.click("button[value=xlsx]")
	book, err := excelize.OpenReader(bytes.NewReader(downloaded(t, filepath.Join(dir, "spring-links.xlsx"))))
	s.Must(err)
	defer book.Close()
	rows, err = book.GetRows(book.GetSheetName(0))
	s.Must(err)
	s.expectExported(rows)
	b.stays()
}

// expectExported compares an export of 30 links and two failed requests with the records.
func (s *system) expectExported(rows [][]string) {
	s.Helper()
	if len(rows) != 33 {
		s.Fatalf("the export has %d rows, want 32 below a header:\n%q", len(rows), rows)
	}
	column := func(row []string, name string) string {
		at := slices.Index(rows[0], name)
		if at < 0 {
			s.Fatalf("the header %q has no column %s", rows[0], name)
		}
		if at >= len(row) { // a workbook has no empty cells at the end
			return ""
		}
		return row[at]
	}
	for i, row := range rows[1:] {
		id := fmt.Sprintf("A-%d", i+1)
		if i >= 30 {
			id = fmt.Sprintf("bad-%d", i-29)
		}
		link, err := s.Client.Get(s.Context(), id)
		s.Must(err)
		got := []string{column(row, "application_id"), column(row, "status"), column(row, "url"), strings.Split(column(row, "reason"), ":")[0]}
		if want := []string{id, string(link.Status), link.URL, link.Reason}; !slices.Equal(got, want) || (link.URL == "") != (i >= 30) {
			s.Errorf("row %d has %q, want %q", i+1, got, want)
		}
	}
}
