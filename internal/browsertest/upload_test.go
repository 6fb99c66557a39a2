//go:build browser

package browsertest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// people returns a CSV file with a number of rows, and one that is refused.
func people(rows int) string {
	var text strings.Builder
	text.WriteString("application_id,redirect_url,name\n")
	for n := range rows {
		fmt.Fprintf(&text, "A-%d,https://shop.example/done,Person %d\n", 1001+n, n+1)
	}
	text.WriteString("A-1,not-a-url,Nobody\n")
	return text.String()
}

// drop drops a file on an element.
func (b *tab) drop(selector, path string) {
	b.Helper()
	b.run(element(selector) + `.scrollIntoView({block: "center"})`)
	at := value[struct{ X, Y float64 }](b, fmt.Sprintf(`(({x, y, width, height}) => ({X: x + width / 2, Y: y + height / 2}))(%s.getBoundingClientRect())`, element(selector)))
	const copied = 1
	for _, kind := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
		call(b, input.DispatchDragEvent, input.DispatchDragEventParams{
			Type: kind, X: at.X, Y: at.Y, Data: &input.DragData{Items: []*input.DragDataItem{}, Files: []string{path}, DragOperationsMask: copied},
		})
	}
}

// choose chooses a file in a form's field.
func (b *tab) choose(path string) {
	b.Helper()
	b.await("the field for the file is there", `document.querySelector("input[type=file]")`)
	b.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{path}))
}

func TestUpload_IsCheckedImportedAndWatchedToItsEnd(t *testing.T) {
	s := newSystem(t, noFaults)
	s.worker("FACEKI_RATE=40/s")
	b := s.signedIn(apikey.Read, apikey.Operate, apikey.Enqueue)
	b.visit("/batches")
	b.click(`a[href="/batches/new"]`)
	b.await("the form is open", `document.querySelector(".drop input")`)
	b.run(mark)
	b.drop(".drop input", fixture.File(t, "spring.csv", people(120)))
	b.await("the file is in the form", `document.querySelector("input[type=file]").files.length === 1`)
	b.click("form[data-upload] button.primary")
	b.awaitText("#t-rows + .big", "121")
	b.awaitText("#t-rejected + .big", "1")
	b.awaitText("#t-rejects + .scroll", "must start with https://")
	for _, violation := range b.violations() {
		t.Errorf("the checked file: %s", violation)
	}
	b.stays()

	b.click(`button[formaction="/batches/import"]`)
	b.awaitText("#t-result", "121 rows in the batch spring")
	for _, violation := range b.violations() {
		t.Errorf("the imported file: %s", violation)
	}
	b.click(`main a.primary`)
	b.awaitText("h1", "spring")
	b.run(mark)
	b.awaitText("#t-done + .big", "100 %")
	b.awaitText("#t-status + .big", "done")
	b.awaitText(".legend li[data-state=created]", "120")
	b.stays()
}

func TestUpload_OfAnotherFileThanTheCheckedOneIsRefused(t *testing.T) {
	s := newSystem(t, noFaults)
	b := s.signedIn(apikey.Read, apikey.Enqueue)
	b.expectStatus(http.StatusConflict)
	b.visit("/batches/new")
	b.choose(fixture.File(t, "spring.csv", people(3)))
	b.click("form[data-upload] button.primary")
	b.awaitText("#t-rows + .big", "4")
	b.choose(fixture.File(t, "spring.csv", people(4)))
	b.click(`button[formaction="/batches/import"]`)
	b.awaitText("[role=alert]", "file")
	b.awaitText("#t-rows + .big", "5")
	s.visitEmptyList(b)
}

func (s *system) visitEmptyList(b *tab) {
	s.Helper()
	b.visit("/batches")
	b.awaitText("main", "There is no batch yet")
}

func TestUpload_WithoutTheScopeIsNotOffered(t *testing.T) {
	s := newSystem(t, noFaults)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.expectStatus(http.StatusForbidden)
	b.visit("/batches")
	if b.has(`a[href="/batches/new"]`) {
		t.Error("a key without the scope enqueue is offered an import")
	}
	b.visit("/batches/new")
	b.awaitText("main", "does not have the scope enqueue")
}

func TestWithoutJavaScript_AFileIsImported(t *testing.T) {
	s := newSystem(t, noFaults)
	s.worker()
	b := s.open(apikey.Read, apikey.Enqueue)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit("/batches/new")
	b.mouse("#key")
	b.insert(b.key)
	b.mouse(".door form button")
	path := fixture.File(t, "spring.csv", people(3))
	b.choose(path)
	b.mouse("form[data-upload] button.primary")
	b.awaitText("#t-rows + .big", "4")
	b.choose(path)
	b.mouse(`button[formaction="/batches/import"]`)
	b.awaitText("#t-result", "4 rows in the batch spring")
	s.await("A-1001", "created")
}
