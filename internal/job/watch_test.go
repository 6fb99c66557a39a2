package job

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
)

func TestNotices_AreOneMessagePerObstacle(t *testing.T) {
	t.Parallel()
	var n notices
	at, got := time.Now(), []string(nil)
	pass := func(d time.Duration, obstacle string) {
		for range int(d / time.Second) {
			at = at.Add(time.Second)
			if line := n.next(at, obstacle, func() string { return "the gate is closed" }); line != "" {
				got = append(got, line)
			}
		}
	}
	pass(time.Second, "gate closed: outage") // too short for a message
	pass(20*time.Second, "")
	for range 5 { // the gate opens for a moment, repeatedly
		pass(20*time.Second, "gate closed: outage")
		pass(2*time.Second, "")
	}
	pass(20*time.Second, "")
	want := "[no link is created now: the gate is closed links are created again, after 1m48s with 5 interruptions]"
	if fmt.Sprint(got) != want {
		t.Errorf("got messages %q, want %s", got, want)
	}
}

// An answer of anything but FaceKi is no reason to check the credentials.
func TestRefusedError_SaysWhatToCheck(t *testing.T) {
	for kind, want := range map[fault.Kind]string{
		fault.Unauthorized: "FaceKi refuses the account's credentials or address (HTTP 401): check FACEKI_CLIENT_ID and FACEKI_CLIENT_SECRET, then run the same command again",
		fault.NotFaceKi:    "something other than FaceKi's API answered, and refused the call (HTTP 401). Correct that, then run the same command again",
	} {
		err := &refusedError{(&fault.Fault{Kind: kind, Detail: "HTTP 401"}).Error()}
		if err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
