package fault

import "testing"

// A row without a signal would leave the gate without the outcome of a call; an account's
// fault that may have made a link would be repeated without being counted.
func TestTable_HasACompleteRowForEachKind(t *testing.T) {
	for _, k := range Kinds() {
		f := &Fault{Kind: k}
		if f.Reason() == "" || f.Scope().String() == "" || f.Outcome().String() == "" || f.Signal() == "" || f.Error() == "" {
			t.Errorf("kind %d has no complete row: %+v", k, f.row())
		}
		if f.Outcome() == Uncertain && f.Scope() == Account {
			t.Errorf("kind %d applies to the account, and may have made a link: %+v", k, f.row())
		}
	}
}

func TestChargedSignal_IsNoEvidenceOfAnOutage(t *testing.T) {
	for _, kind := range Kinds() {
		f := &Fault{Kind: kind}
		want := f.Signal()
		if want == SignalOutage || want == SignalUnavailable {
			want = SignalNone
		}
		if got := f.ChargedSignal(); got != want {
			t.Errorf("%v: %s, want %s", kind, got, want)
		}
	}
}

func TestTable_SignalsWhatTheScopeImplies(t *testing.T) {
	want := map[Scope][]Signal{
		ThisRequest: {SignalAlive},
		FaceKi:      {SignalOutage, SignalUnavailable},
		Account:     {SignalRefused, SignalNoCredit, SignalLimitReached},
		Throttle:    {SignalThrottle},
		Ourselves:   {SignalUnused},
		Person:      {SignalOutage},
	}
	for _, k := range Kinds() {
		f := &Fault{Kind: k}
		ok := false
		for _, s := range want[f.Scope()] {
			// An account's fault closes the gate for its own reason.
			ok = ok || f.Signal() == s && (f.Scope() != Account || string(s) == string(f.Reason()))
		}
		if !ok {
			t.Errorf("kind %d applies to %v and signals %q", k, f.Scope(), f.Signal())
		}
	}
}

// The next probe follows soon after a fault with this signal, because it made no link and
// cost nothing.
func TestTable_SignalsUnavailableOnlyWithoutALink(t *testing.T) {
	for _, k := range Kinds() {
		f := &Fault{Kind: k}
		want := f.Scope() == FaceKi && f.Outcome() == NoLink && k != TokenUnavailable // FaceKi bills tokens
		if got := f.Signal() == SignalUnavailable; got != want {
			t.Errorf("%v signals %q", f, f.Signal())
		}
	}
}

func TestFault_SignalsAnUnusedGrantWhenItsTokenIsRenewed(t *testing.T) {
	if s := (&Fault{Kind: Unauthorized, Renewed: true}).Signal(); s != SignalUnused {
		t.Errorf("a renewed token signals %q", s)
	}
}

func TestFault_IsCertainWhenItsLinkIsKept(t *testing.T) {
	if f := (&Fault{Kind: Unusable, Kept: "…"}); f.Uncertain() || f.Outcome() != Uncertain {
		t.Errorf("a kept link is uncertain: %v", f.Uncertain())
	}
}

func TestFault_ShowsItsDetail(t *testing.T) {
	f := &Fault{Kind: ServerError, Detail: "HTTP 500"}
	if got := f.Error(); got != "FaceKi failed while it handled the request (HTTP 500)" {
		t.Error(got)
	}
}
