package dispatch

import (
	"fmt"
	"testing"
	"time"
)

// A receiver that does not answer gets few handlers, and is not called in a busy loop; the
// others are not delayed.
func TestHosts_GiveADeadReceiverFewHandlers(t *testing.T) {
	s := newHosts()
	now := time.Now()
	s.now = func() time.Time { return now }
	for range 16 {
		if _, ok := s.enter(t.Context(), "dead"); !ok {
			t.Fatal("there is no place for the first ones")
		}
	}
	if postpone, ok := s.enter(t.Context(), "dead"); ok || postpone > 2*time.Second {
		t.Errorf("the seventeenth of a host: %v, postponed by %v", ok, postpone)
	}
	for range 16 {
		s.leave("dead", contact{15 * time.Second, false})
	}
	in, last, total := 0, time.Duration(0), 1000
	for range total {
		postpone, ok := s.enter(t.Context(), "dead")
		if ok {
			in++
			continue
		}
		if postpone < time.Second || postpone > 6*time.Minute {
			t.Fatalf("postponed by %v", postpone)
		}
		last = max(last, postpone)
	}
	if in != 2 || last < 150*time.Second {
		t.Errorf("%d of %d handlers for a dead host; the longest was postponed by %v", in, total, last)
	}
	if _, ok := s.enter(t.Context(), "alive"); !ok {
		t.Error("another host has to wait")
	}
	s.leave("dead", contact{})
	s.enter(t.Context(), "dead")
	if _, ok := s.enter(t.Context(), "dead"); ok {
		t.Error("a host that was not asked is not dead any more")
	}
	s.leave("dead", contact{time.Millisecond, true})
	for range 10 {
		if _, ok := s.enter(t.Context(), "dead"); !ok {
			t.Fatal("a host that answers again is treated as dead")
		}
	}
	now = now.Add(time.Second)
	for range 10 {
		s.leave("dead", contact{}) // as when kyclink's own proxy is down
	}
	for range 10 {
		if _, ok := s.enter(t.Context(), "dead"); !ok {
			t.Fatal("a host that was not asked is treated as dead")
		}
	}
}

// Many attempts that hang at a time do not make a receiver dead while others are answered.
func TestHosts_KeepAReceiverAliveWhileSomeAnswersCome(t *testing.T) {
	s := newHosts()
	now := time.Now()
	s.now = func() time.Time { return now }
	for range 16 {
		s.enter(t.Context(), "odd")
	}
	now = now.Add(14 * time.Second)
	s.leave("odd", contact{time.Millisecond, true})
	now = now.Add(time.Second)
	for range 15 {
		s.leave("odd", contact{15 * time.Second, false})
	}
	for range 16 {
		if _, ok := s.enter(t.Context(), "odd"); !ok {
			t.Fatal("it is treated as dead")
		}
	}
}

func TestHosts_ForgetIdleReceivers(t *testing.T) {
	s := newHosts()
	for i := range 100 {
		name := fmt.Sprint(i)
		s.enter(t.Context(), name)
		s.leave(name, contact{time.Millisecond, true})
	}
	if len(s.known) != 0 {
		t.Errorf("%d hosts are remembered", len(s.known))
	}
}
