package console

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
)

func TestNow_StreamsWhatThePageShows(t *testing.T) {
	h := populated(t)
	b := h.signedIn(apikey.Read)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+livePath, nil)
	h.Must(err)
	resp, err := b.http.Do(r)
	h.Must(err)
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("got type %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	var text strings.Builder
	for lines.Scan() && lines.Text() != "" {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok && lines.Text() != "data:" {
			t.Fatalf("got line %q", lines.Text())
		}
		text.WriteString(data + "\n")
	}
	for _, want := range []string{`class="banner"`, "Waiting for a person", `/held`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the update does not contain %s:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "<html") {
		t.Error("the update is a whole page")
	}
	h.newBrowser(apikey.Read).get(livePath, http.StatusUnauthorized)
}

func TestLive_RendersOnceForAllAndNotForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rendered atomic.Int32
		l := newLive(func(context.Context) ([]byte, error) {
			rendered.Add(1)
			return []byte("update"), nil
		})
		time.Sleep(time.Minute) //nolint:forbidigo // of a bubble
		if n := rendered.Load(); n != 0 {
			t.Fatalf("rendered %d times for nobody", n)
		}
		var browsers sync.WaitGroup
		for range 50 {
			updates, leave := l.watch(func(err error) { t.Error(err) })
			browsers.Go(func() {
				defer leave()
				for range 10 {
					<-updates
				}
			})
		}
		browsers.Wait()
		if n := rendered.Load(); n < 10 || n > 11 {
			t.Errorf("rendered %d times for 50 browsers in 10 seconds", n)
		}
		synctest.Wait()
		before := rendered.Load()
		time.Sleep(time.Minute) //nolint:forbidigo // of a bubble
		if n := rendered.Load(); n != before {
			t.Errorf("rendered %d times after all had left", n-before)
		}
		// A browser that does not read holds up no other.
		_, leaveSlow := l.watch(func(err error) { t.Error(err) })
		updates, leave := l.watch(func(err error) { t.Error(err) })
		for range 5 {
			<-updates
		}
		leaveSlow()
		leave()
		synctest.Wait()
	})
}
