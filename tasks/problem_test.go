package tasks_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

// Problems of known keys come first.
func TestInvalidError_IsSmallHoweverLargeTheRequestIs(t *testing.T) {
	t.Parallel()
	var members strings.Builder
	for i := range 50 {
		fmt.Fprintf(&members, `"%d%s":1,`, i, strings.Repeat("ä", 5000))
	}
	_, err := tasks.ParseRequest([]byte("{" + members.String() + `"application_id":"A 1","expiry_minutes":"x"}`))
	invalid, ok := errors.AsType[*tasks.InvalidError](err)
	if !ok || len(invalid.Problems) != tasks.MaxProblems+1 {
		t.Fatalf("got error %v, want %d problems and a count of the others", err, tasks.MaxProblems)
	}
	if got := invalid.Problems[0].Key + invalid.Problems[1].Key; got != "expiry_minutesapplication_id" {
		t.Errorf("the first two problems are of %q, want expiry_minutes and application_id", got)
	}
	if last := invalid.Problems[tasks.MaxProblems]; last != (tasks.Problem{Message: "and 32 more"}) {
		t.Errorf("the last problem is %+v", last)
	}
	for _, p := range invalid.Problems {
		if n := utf8.RuneCountInString(p.Key); n > 129 || n == 129 && !strings.HasSuffix(p.Key, "…") || !utf8.ValidString(p.Key) {
			t.Errorf("an error contains a key of %d characters, want at most 128 and an ellipsis", n)
		}
	}
	if n := len(err.Error()); n > 20_000 {
		t.Errorf("the error has %d bytes, want at most 20000", n)
	}
}

func TestParse_RemovesBlanksOfMetadata(t *testing.T) {
	t.Parallel()
	long := "{" + strings.Repeat(" ", 1<<20) + `"customer":"42"}`
	fromText, err := parseText(map[string]string{"application_id": "A-1", "metadata": long})
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := tasks.ParseRequest([]byte(`{"application_id":"A-1","metadata":` + long + `}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []tasks.Request{fromText, fromJSON} {
		if string(r.Metadata) != `{"customer":"42"}` || cap(r.Metadata) > 100 {
			t.Errorf("got %d bytes of metadata with capacity %d, want 17 without blanks", len(r.Metadata), cap(r.Metadata))
		}
	}
}
