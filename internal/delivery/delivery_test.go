package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/tasks"
)

// courier is what a test does to the delivery of one event.
type courier struct {
	*harness
	event tasks.Event
}

const destination = "https://Shop.example:8443/hooks?key=1"

func newCourier(t *testing.T) courier {
	h := newHarness(t)
	return h.ended("A-1")
}

// ended returns the delivery of a request with a callback URL that was cancelled.
func (h *harness) ended(id string) courier {
	h.Helper()
	return courier{h, h.EndWithCallback(id, destination)}
}

func (c courier) open(replay bool) []delivery.Task {
	c.Helper()
	event := c.event
	event.Replay = replay
	all, err := c.Stores.Deliveries.OpenDeliveries(c.Context(), []tasks.Event{event})
	c.Must(err)
	return all
}

func (c courier) begin(again int) (delivery.Delivery, bool) {
	c.Helper()
	d, ok, err := c.Stores.Deliveries.BeginDelivery(c.Context(), delivery.Task{EventID: c.event.ID, Again: again})
	c.Must(err)
	return d, ok
}

func (c courier) begun() delivery.Delivery {
	c.Helper()
	d, ok := c.begin(0)
	if !ok {
		c.Fatal("no attempt may be made")
	}
	return d
}

func (c courier) end(d delivery.Delivery, r delivery.Reply, again time.Duration) delivery.Status {
	c.Helper()
	status, err := c.Stores.Deliveries.EndDelivery(c.Context(), d, r, again)
	c.Must(err)
	return status
}

// now is the delivery, whose place among what is pending and what is given up is
// held to its status.
func (c courier) now() delivery.Delivery {
	c.Helper()
	all, err := c.Stores.Deliveries.Of(c.Context(), c.event.Data.ApplicationID)
	c.Must(err)
	if len(all) != 1 {
		c.Fatalf("%d deliveries", len(all))
	}
	d, in := all[0], func(set string) bool { return c.Redis.ZScore(c.Context(), set, c.event.ID).Err() == nil }
	if in(c.Keys.Pending()) != (d.Status == delivery.Pending) || in(c.Keys.Undelivered()) != (d.Status == delivery.GivenUp && !d.Dropped) {
		c.Errorf("%s (dropped %v): pending %v, undelivered %v", d.Status, d.Dropped, in(c.Keys.Pending()), in(c.Keys.Undelivered()))
	}
	if kept := d.URL != "" && len(d.Body) > 0; kept == (d.Status == delivery.Delivered) {
		c.Errorf("%s: url %q, body %s", d.Status, d.URL, d.Body)
	}
	return d
}

var (
	taken   = delivery.Reply{Code: 204}
	oops    = delivery.Reply{Code: 500, Reason: "receiver_error", Message: "HTTP 500", Body: "oops"}
	noProxy = delivery.Reply{Reason: "proxy_error", Message: "the proxy cannot be reached", NoAttempt: true}
)

func TestDeliveryIsMadeOnce(t *testing.T) {
	c := newCourier(t)
	first := c.open(false)
	if len(first) != 1 || first[0] != (delivery.Task{EventID: c.event.ID, ApplicationID: "A-1", Host: "shop.example:8443"}) {
		t.Fatalf("dispatched: %+v", first)
	}
	c.begun()
	if again := c.open(false); len(again) != 1 || again[0].Again != 0 {
		t.Errorf("dispatched again: %+v", again)
	}
	if d := c.now(); d.Attempts != 1 || d.Status != delivery.Pending || d.Type != tasks.EventCancelled || d.URL != destination {
		t.Errorf("opened again it is %+v", d)
	}
}

func TestDeliveryIsTakenFromAnyAttempt(t *testing.T) {
	c := newCourier(t)
	c.open(false)
	first, second := c.begun(), c.begun()
	if c.end(first, oops, time.Minute); c.now().Last.Code != 0 {
		t.Error("a failure of an earlier attempt was recorded")
	}
	if c.end(first, oops, 0); c.now().Status != delivery.Pending {
		t.Error("an earlier attempt gave it up")
	}
	if c.end(second, oops, 0); c.now().Status != delivery.GivenUp {
		t.Error("it is not given up")
	}
	if status := c.end(second, oops, time.Minute); status != delivery.GivenUp || c.now().Status != delivery.GivenUp {
		t.Errorf("its last attempt told once more makes it %s", status)
	}
	if status := c.end(first, taken, 0); status != delivery.Delivered {
		t.Errorf("taken late it is %s", status)
	}
	if d := c.now(); d.DeliveredAt.IsZero() || !d.GivenUpAt.IsZero() || d.Last.Code != 204 || d.Last.Body != "" {
		t.Errorf("it is %+v", d)
	}
	if ok, err := c.Stores.DeadLetters.DropDelivery(t.Context(), second); ok || err != nil || c.now().Dropped {
		t.Errorf("what was taken late was dropped: %v, %v", ok, err)
	}
	if c.end(second, oops, 0); c.now().Status != delivery.Delivered {
		t.Error("a failure came after it was taken, and was recorded")
	}
	if c.end(second, delivery.Reply{Code: 200}, 0); c.now().Last.Code != 204 {
		t.Error("it was delivered twice")
	}
	if _, ok := c.begin(0); ok {
		t.Error("what was delivered is tried again")
	}
	if len(c.open(true)) != 0 {
		t.Error("what was delivered is dispatched again")
	}
}

func TestDeliveryThatWasNoAttempt(t *testing.T) {
	c := newCourier(t)
	c.open(false)
	for range 3 {
		c.end(c.begun(), noProxy, time.Minute)
	}
	if d := c.now(); d.Attempts != 0 || d.Tries != 0 || d.Status != delivery.Pending || d.Last.Reason != noProxy.Reason {
		t.Errorf("it is %+v", d)
	}
}

// A given-up delivery is retried only by a caller that has read its present state.
func TestDeliveryTakenUpAgain(t *testing.T) {
	c := newCourier(t)
	c.open(false)
	c.end(c.begun(), oops, time.Minute)
	c.end(c.begun(), oops, 0)
	if _, ok := c.begin(0); ok || len(c.open(false)) != 0 {
		t.Error("what is given up is tried again by itself")
	}
	if _, ok := c.begin(1); ok {
		t.Error("it is tried again by who saw it with fewer attempts")
	}
	seen := c.now()
	if again := c.open(true); len(again) != 1 || again[0].Again != 2 {
		t.Errorf("published again it is dispatched as %+v", again)
	}
	waive := func(d delivery.Delivery) bool {
		ok, err := c.Stores.DeadLetters.DropDelivery(t.Context(), d)
		c.Must(err)
		return ok
	}
	if !waive(seen) || !c.now().Dropped || waive(seen) {
		t.Error("it cannot be dropped, or twice")
	}
	if d, ok := c.begin(2); !ok || d.Attempts != 3 || d.Tries != 1 || d.Dropped || !d.GivenUpAt.IsZero() {
		t.Errorf("after a retry it is %+v, %v", d, ok)
	}
	if c.now(); waive(seen) {
		t.Error("what is tried again was dropped")
	}
	if c.end(c.now(), oops, 0); waive(seen) || c.now().Dropped {
		t.Error("it was dropped by who saw it with fewer attempts")
	}
	c.begin(3)
	if d := c.now(); d.Status != delivery.Pending { // its place is looked at, too
		t.Errorf("after another retry it is %+v", d)
	}
}

func TestStalledDeliveries(t *testing.T) {
	c := newCourier(t)
	other := c.ended("A-2")
	stalled := func(since time.Duration) (events []string) {
		all, more, err := c.Stores.Deliveries.StalledDeliveries(t.Context(), since)
		c.Must(err)
		if more {
			t.Error("there are more")
		}
		for _, d := range all {
			if d.Host != "shop.example:8443" || d.Again != 0 {
				t.Errorf("named as %+v", d)
			}
			events = append(events, d.ApplicationID+" "+d.EventID)
		}
		return events
	}
	c.open(false)
	other.open(false)
	c.end(c.begun(), oops, time.Hour)
	if got := stalled(time.Minute); len(got) != 0 {
		t.Errorf("of what was just opened are stalled: %v", got)
	}
	if got := stalled(-time.Minute); len(got) != 1 || got[0] != "A-2 "+other.event.ID {
		t.Errorf("a minute later are stalled: %v", got)
	}
	if got := stalled(-2 * time.Hour); len(got) != 2 {
		t.Errorf("two hours later are stalled: %v", got)
	}
	if got := stalled(-30 * time.Minute); len(got) != 2 {
		t.Errorf("once named they are not named after as long: %v", got)
	}
}

func TestErasedDeliveriesLeaveNothing(t *testing.T) {
	c := newCourier(t)
	givenUp, delivered := c.ended("A-2"), c.ended("A-3")
	for _, one := range []courier{c, givenUp, delivered} {
		one.open(false)
	}
	late := c.begun()
	givenUp.end(givenUp.begun(), oops, 0)
	delivered.end(delivered.begun(), taken, 0)
	c.Erase("A-1", "A-2", "A-3")
	if status := c.end(late, taken, 0); status != "" {
		t.Errorf("the end of an attempt finds what was erased %q", status)
	}
	if _, ok := c.begin(0); ok || len(c.open(true)) != 0 {
		t.Error("what was erased is tried again")
	}
	for key, value := range c.Dump() {
		if key == c.Keys.Results() {
			continue // forget takes it out of there
		}
		for _, one := range []courier{c, givenUp, delivered} {
			if strings.Contains(key+value, one.event.ID) {
				t.Errorf("%s is left in %s: %s", one.event.Data.ApplicationID, key, value)
			}
		}
	}
}
