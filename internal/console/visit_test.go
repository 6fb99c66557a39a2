package console

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/output"
)

// When Redis fails, only a page that may have changed something says that this is uncertain.
func TestFail_CallsOnlyChangesUncertain(t *testing.T) {
	h := newHarness(t)
	h.console.Log = zap.NewNop()
	for pattern, want := range map[string]bool{
		"GET /failed": false, "POST /actions/plan": false, "POST /batches/check": false, "POST /batches/rejects": false,
		"POST /batch/export": false, "POST /request/reveal": false, "POST /sign-in": false,
		"POST /actions/start": true, "POST /account/pause": true, "POST /batches/import": true, "POST /request/retry": true,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		r, w := httptest.NewRequestWithContext(t.Context(), method, path, nil), httptest.NewRecorder()
		r.Pattern = pattern
		h.console.fail(&visit{w: w, r: r}, errors.New("no answer"))
		if got := strings.Contains(w.Body.String(), "It is not certain"); w.Code != http.StatusServiceUnavailable || got != want {
			t.Errorf("%s: got %d, and that a change is uncertain: %v, want %v", pattern, w.Code, got, want)
		}
	}
}

func TestFileError_IsNotOneOfRedis(t *testing.T) {
	h := newHarness(t)
	h.console.Log = zap.NewNop()
	shown, ok := errors.AsType[*pageError](h.console.fileError(&output.Error{}))
	if !ok || shown.Status != http.StatusInsufficientStorage {
		t.Errorf("a file that cannot be written: got %+v", shown)
	}
	if other := errors.New("no answer"); !errors.Is(h.console.fileError(other), other) {
		t.Error("another error is not returned")
	}
}
