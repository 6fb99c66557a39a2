package transfer

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kyclink/kyclink/internal/apikey"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLimits_ArePerKeyAndInTotal(t *testing.T) {
	l := NewLimits("uploads")
	l.PerKey, l.Total = 1, 2
	first, second, third := apikey.Key{ID: "1", Name: "shop"}, apikey.Key{ID: "2"}, apikey.Key{ID: "3"}
	begin := func(k apikey.Key, want string) {
		t.Helper()
		got := ""
		if err := l.Begin(k); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("key %s: got %q, want %q", k.ID, got, want)
		}
	}
	begin(first, "")
	begin(first, `key "shop" may have 1 uploads at a time; wait until one has finished`)
	begin(second, "")
	begin(third, "this service already handles 2 uploads; try again later")
	l.End(first)
	begin(first, "")
	if n := l.InProgress(); n != 2 {
		t.Errorf("%d are in progress, want 2", n)
	}
}

func TestNames_RefuseASecondUploadToABatch(t *testing.T) {
	var n Names
	for _, want := range []bool{true, false} {
		if got := n.Begin("spring"); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	n.End("spring")
	if !n.Begin("spring") {
		t.Error("an upload is refused after the end of the other one")
	}
}

func TestPace_GrowsWithTheBytesUpToTheMaximum(t *testing.T) {
	p := pace{firstStall}
	if p.moved(len("application_id\nA-1"), 0); p.left > firstStall+time.Second {
		t.Errorf("after 18 bytes, a stall may take %v, want at most %v", p.left, firstStall+time.Second)
	}
	if p.moved(1<<20, 0); p.left != MaxStall {
		t.Errorf("after 1 MiB, a stall may take %v, want %v", p.left, MaxStall)
	}
	if p.moved(0, time.Second); p.left != MaxStall-time.Second {
		t.Errorf("after a second, a stall may take %v, want a second less", p.left)
	}
}

// The client does not read the answer, so that a write blocks.
func TestWriter_EndsABlockedWriteWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	ended, wrote := errors.New("ended"), make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := &Writer{w, ctx, http.NewResponseController(w), pace{time.Hour}}
		_, _ = out.Write(make([]byte, 256<<20))
		_, err := out.Write([]byte("x"))
		wrote <- err
	}))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop(ended) // while the first write blocks
	select {
	case err := <-wrote:
		if !errors.Is(err, ended) {
			t.Errorf("the write after the end failed with %v, want the cause of the context", err)
		}
	case <-time.After(time.Minute):
		t.Error("the write does not end with its context")
	}
}
