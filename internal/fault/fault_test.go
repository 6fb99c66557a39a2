package fault

import "testing"

func TestEveryKindHasItsRow(t *testing.T) {
	for k := BadRequest; k < kinds; k++ {
		f := &Fault{Kind: k}
		if f.Reason() == "" || f.Party().String() == "" || f.Outcome().String() == "" || f.Error() == "" {
			t.Errorf("kind %d has no full row: %+v", k, f.row())
		}
		if f.Outcome() == Unknown && f.Party() == Account {
			t.Errorf("kind %d concerns the account, and may have made a link: %+v", k, f.row())
		}
	}
}

func TestDetailIsShown(t *testing.T) {
	f := &Fault{Kind: ServerError, Detail: "HTTP 500"}
	if got := f.Error(); got != "FaceKi failed while it handled the request (HTTP 500)" {
		t.Error(got)
	}
}
