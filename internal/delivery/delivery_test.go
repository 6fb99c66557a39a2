package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/tasks"
)

// courier opens and attempts the delivery of one event.
type courier struct {
	*harness
	event tasks.Event
}

// destination is the callback URL of the events.
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

// open opens the deliveries of the event, or of a replay of it.
func (c courier) open(replay bool) []delivery.Task {
	c.Helper()
	event := c.event
	event.Replay = replay
	all, err := c.Stores.Deliveries.Open(c.Context(), []tasks.Event{event})
	c.Must(err)
	return all
}

// begin begins an attempt, as a task does that read the delivery after again attempts.
func (c courier) begin(again int) (delivery.Delivery, bool) {
	c.Helper()
	d, ok, err := c.Stores.Deliveries.Begin(c.Context(), delivery.Task{EventID: c.event.ID, RestartAfter: again})
	c.Must(err)
	return d, ok
}

// begun begins an attempt, which must be allowed.
func (c courier) begun() delivery.Delivery {
	c.Helper()
	d, ok := c.begin(0)
	if !ok {
		c.Fatal("no attempt is allowed")
	}
	return d
}

// end ends an attempt with a reply; again is the delay before the next one, 0 if there is
// none.
func (c courier) end(d delivery.Delivery, r delivery.Reply, again time.Duration) delivery.Status {
	c.Helper()
	status, err := c.Stores.Deliveries.End(c.Context(), d, r, again)
	c.Must(err)
	return status
}

// now returns the delivery, and compares its places in the lists of pending and of given-up
// deliveries with its status.
func (c courier) now() delivery.Delivery {
	c.Helper()
	all, err := c.Stores.Deliveries.ForRequest(c.Context(), c.event.Data.ApplicationID, func(_ string, why error) { c.Error(why) })
	c.Must(err)
	if len(all) != 1 {
		c.Fatalf("there are %d deliveries, want 1", len(all))
	}
	d, in := all[0], func(set string) bool { return c.Redis.ZScore(c.Context(), set, c.event.ID).Err() == nil }
	if in(c.Keys.Pending()) != (d.Status == delivery.Pending) || in(c.Keys.Undelivered()) != (d.Status == delivery.GivenUp && !d.Dropped) {
		c.Errorf("a delivery that is %s (dropped: %v) is listed as pending: %v, as given up: %v", d.Status, d.Dropped, in(c.Keys.Pending()), in(c.Keys.Undelivered()))
	}
	if kept := d.URL != "" && len(d.Body) > 0; kept == (d.Status == delivery.Delivered) {
		c.Errorf("a delivery that is %s keeps the URL %q and the body %s", d.Status, d.URL, d.Body)
	}
	return d
}

var (
	accepted = delivery.Reply{Code: 204}
	failed   = delivery.Reply{Code: 500, Reason: "receiver_error", Message: "HTTP 500", Body: "oops"}
	noProxy  = delivery.Reply{Reason: "proxy_error", Message: "the proxy cannot be reached", NoAttempt: true}
)

func TestOpen_OpensAnEventOnce(t *testing.T) {
	c := newCourier(t)
	first := c.open(false)
	if len(first) != 1 || first[0] != (delivery.Task{EventID: c.event.ID, ApplicationID: "A-1", Host: "shop.example:8443"}) {
		t.Fatalf("the tasks are %+v", first)
	}
	c.begun()
	if again := c.open(false); len(again) != 1 || again[0].RestartAfter != 0 {
		t.Errorf("the tasks of the event opened again are %+v", again)
	}
	if d := c.now(); d.Attempts != 1 || d.Status != delivery.Pending || d.Type != tasks.EventCancelled || d.URL != destination {
		t.Errorf("the delivery opened again is %+v", d)
	}
}

func TestOpen_FindsTheURLInARecordOfAnEarlierVersion(t *testing.T) {
	c := newCourier(t)
	c.StoreAsVersion1("A-1")
	if opened := c.open(false); len(opened) != 1 || c.now().URL != destination {
		t.Errorf("opened %+v", opened)
	}
}

func TestEnd_AcceptsTheSuccessOfAnyAttempt(t *testing.T) {
	c := newCourier(t)
	c.open(false)
	first, second := c.begun(), c.begun()
	if c.end(first, failed, time.Minute); c.now().Last.Code != 0 {
		t.Error("a failure of an earlier attempt was recorded")
	}
	if c.end(first, failed, 0); c.now().Status != delivery.Pending {
		t.Error("the failure of an earlier attempt gave the delivery up")
	}
	if c.end(second, failed, 0); c.now().Status != delivery.GivenUp {
		t.Error("the last attempt did not give the delivery up")
	}
	if status := c.end(second, failed, time.Minute); status != delivery.GivenUp || c.now().Status != delivery.GivenUp {
		t.Errorf("the end of its last attempt, repeated, makes the delivery %s", status)
	}
	if status := c.end(first, accepted, 0); status != delivery.Delivered {
		t.Errorf("the late success of an earlier attempt makes the delivery %s", status)
	}
	if d := c.now(); d.DeliveredAt.IsZero() || !d.GivenUpAt.IsZero() || d.Last.Code != 204 || d.Last.Body != "" {
		t.Errorf("the delivery is %+v", d)
	}
	if ok, err := c.Stores.DeadLetters.DropDelivery(t.Context(), second); ok || err != nil || c.now().Dropped {
		t.Errorf("a delivery that succeeded late was dropped: %v, %v", ok, err)
	}
	if c.end(second, failed, 0); c.now().Status != delivery.Delivered {
		t.Error("a failure after the success was recorded")
	}
	if c.end(second, delivery.Reply{Code: 200}, 0); c.now().Last.Code != 204 {
		t.Error("a second success was recorded")
	}
	if _, ok := c.begin(0); ok {
		t.Error("a delivered event is attempted again")
	}
	if len(c.open(true)) != 0 {
		t.Error("a delivered event has a task again")
	}
}

func TestEnd_DoesNotCountAnAttemptThatWasNotMade(t *testing.T) {
	c := newCourier(t)
	c.open(false)
	for range 3 {
		c.end(c.begun(), noProxy, time.Minute)
	}
	if d := c.now(); d.Attempts != 0 || d.Tries != 0 || d.Status != delivery.Pending || d.Last.Reason != noProxy.Reason {
		t.Errorf("the delivery is %+v", d)
	}
}

// A given-up delivery is retried only by a caller that has read its latest state.
func TestBegin_RetriesAGivenUpDeliveryAsItWasRead(t *testing.T) {
	c := newCourier(t)
	c.open(false)
	c.end(c.begun(), failed, time.Minute)
	c.end(c.begun(), failed, 0)
	if _, ok := c.begin(0); ok || len(c.open(false)) != 0 {
		t.Error("a given-up delivery is attempted again without a retry")
	}
	if _, ok := c.begin(1); ok {
		t.Error("a delivery is retried by a caller that read it with fewer attempts")
	}
	seen := c.now()
	if again := c.open(true); len(again) != 1 || again[0].RestartAfter != 2 {
		t.Errorf("the tasks of the replayed event are %+v", again)
	}
	drop := func(d delivery.Delivery) bool {
		ok, err := c.Stores.DeadLetters.DropDelivery(t.Context(), d)
		c.Must(err)
		return ok
	}
	if !drop(seen) || !c.now().Dropped || drop(seen) {
		t.Error("the delivery was not dropped, or dropped twice")
	}
	if d, ok := c.begin(2); !ok || d.Attempts != 3 || d.Tries != 1 || d.Dropped || !d.GivenUpAt.IsZero() {
		t.Errorf("after a retry the delivery is %+v, %v", d, ok)
	}
	if c.now(); drop(seen) {
		t.Error("a delivery that is being retried was dropped")
	}
	if c.end(c.now(), failed, 0); drop(seen) || c.now().Dropped {
		t.Error("a delivery was dropped by a caller that read it with fewer attempts")
	}
	c.begin(3)
	if d := c.now(); d.Status != delivery.Pending { // now compares the lists, too
		t.Errorf("after another retry the delivery is %+v", d)
	}
}

func TestStalled_ReturnsDeliveriesWithoutATask(t *testing.T) {
	c := newCourier(t)
	other := c.ended("A-2")
	stalled := func(since time.Duration) (events []string) {
		all, more, err := c.Stores.Deliveries.Stalled(t.Context(), since)
		c.Must(err)
		if more {
			t.Error("there are more pages")
		}
		for _, d := range all {
			if d.Host != "shop.example:8443" || d.RestartAfter != 0 {
				t.Errorf("the task is %+v", d)
			}
			events = append(events, d.ApplicationID+" "+d.EventID)
		}
		return events
	}
	c.open(false)
	other.open(false)
	c.end(c.begun(), failed, time.Hour)
	if got := stalled(time.Minute); len(got) != 0 {
		t.Errorf("deliveries that were just opened are stalled: %v", got)
	}
	if got := stalled(-time.Minute); len(got) != 1 || got[0] != "A-2 "+other.event.ID {
		t.Errorf("a minute later, %v are stalled", got)
	}
	if got := stalled(-2 * time.Hour); len(got) != 2 {
		t.Errorf("two hours later, %v are stalled", got)
	}
	if got := stalled(-30 * time.Minute); len(got) != 2 {
		t.Errorf("deliveries that were just named are stalled: %v", got)
	}
}

func TestErase_LeavesNothingOfDeliveries(t *testing.T) {
	c := newCourier(t)
	givenUp, delivered := c.ended("A-2"), c.ended("A-3")
	for _, one := range []courier{c, givenUp, delivered} {
		one.open(false)
	}
	late := c.begun()
	givenUp.end(givenUp.begun(), failed, 0)
	delivered.end(delivered.begun(), accepted, 0)
	c.Erase("A-1", "A-2", "A-3")
	if status := c.end(late, accepted, 0); status != "" {
		t.Errorf("the end of an attempt finds an erased delivery %q", status)
	}
	if _, ok := c.begin(0); ok || len(c.open(true)) != 0 {
		t.Error("an erased delivery is attempted again")
	}
	for key, value := range c.Dump() {
		if key == c.Keys.Results() {
			continue // forget erases the events themselves
		}
		for _, one := range []courier{c, givenUp, delivered} {
			if strings.Contains(key+value, one.event.ID) {
				t.Errorf("the delivery of %s is left in %s: %s", one.event.Data.ApplicationID, key, value)
			}
		}
	}
}
