package worker

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/dispatch"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/recovery"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// postbox is a Poster whose answers the test decides.
type postbox struct {
	mu     sync.Mutex
	answer func(d Delivery) Reply
	posted []Delivery
}

func (p *postbox) Post(_ context.Context, d Delivery) Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posted = append(p.posted, d)
	reply := p.answer(d)
	reply.At = time.Now()
	return reply
}

func (*postbox) Timeout() time.Duration { return time.Second }

func (p *postbox) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.posted)
}

// mail returns a harness whose requests may have a callback URL, and the postbox that its
// worker sends callbacks to.
func mail(t *testing.T, answer func(d Delivery) Reply) (*harness, *postbox) {
	h := newHarness(t, simulator.Script{})
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, Callbacks: tasks.Callbacks{
		Hosts: []string{"*"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	box := &postbox{answer: answer}
	h.cfg.Callbacks.Poster, h.cfg.Callbacks.Pauses = box, []time.Duration{time.Millisecond, time.Millisecond}
	return h, box
}

func (h *harness) deliveries(id string) []delivery.Delivery {
	h.Helper()
	all, err := h.book().Deliveries.ForRequest(h.Context(), id, func(_ string, why error) { h.Error(why) })
	h.Must(err)
	return all
}

var (
	accepted  = Reply{Code: 200}
	failing   = Reply{Code: 500, Reason: "receiver_error", Message: "HTTP 500", Body: "oops"}
	final     = Reply{Code: 404, Reason: "rejected", Message: "HTTP 404", Final: true}
	proxyDown = Reply{Reason: "proxy_error", Message: "the proxy cannot be reached", NoAttempt: true}
)

func TestCallbacks_RetryUntilDeliveredOrGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		answers  []Reply // the last one for ever
		status   delivery.Status
		attempts int
		posts    int
	}{
		"at once":                           {[]Reply{accepted}, delivery.Delivered, 1, 1},
		"after a failure":                   {[]Reply{failing, accepted}, delivery.Delivered, 2, 2},
		"never":                             {[]Reply{failing}, delivery.GivenUp, 3, 3}, // there are two pauses
		"it says no":                        {[]Reply{failing, final}, delivery.GivenUp, 2, 2},
		"our own proxy's failures are none": {[]Reply{proxyDown, proxyDown, proxyDown, proxyDown, accepted}, delivery.Delivered, 1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			h, box := mail(t, func(Delivery) Reply { n++; return c.answers[min(n, len(c.answers))-1] })
			_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", CallbackURL: "https://Shop.example:8443/hooks?key=1"})
			h.Must(err)
			h.start(h.book(), h.faceki)
			h.Eventually("it is over", func() bool {
				all := h.deliveries("A-1")
				return len(all) == 1 && all[0].Status != delivery.Pending
			})
			d := h.deliveries("A-1")[0]
			if d.Status != c.status || d.Attempts != c.attempts || box.count() != c.posts || d.Host != "shop.example:8443" {
				t.Errorf("after %d posts: %+v", box.count(), d)
			}
			if over := d.Status == delivery.Delivered; over != (len(d.Body) == 0) || over != (d.URL == "") || over == d.DeliveredAt.IsZero() {
				t.Errorf("kept: %+v", d)
			}
			if !strings.HasPrefix(string(box.posted[0].Body), `{"type":"link.created","timestamp":"`) || box.posted[0].URL != "https://Shop.example:8443/hooks?key=1" {
				t.Errorf("posted: %s to %s", box.posted[0].Body, box.posted[0].URL)
			}
		})
	}
}

// Every end is delivered, whatever caused it, to the batch's URL if the request has none,
// and not at all if neither has one.
func TestCallbacks_DeliverEveryEnd(t *testing.T) {
	t.Parallel()
	h, box := mail(t, func(Delivery) Reply { return accepted })
	late := time.Now().Add(5 * time.Second) // until then the request is accepted
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring", Options: tasks.Options{CallbackURL: "https://batch.example/"}}, tasks.Rows([]tasks.Request{
		{ApplicationID: "A-1"}, {ApplicationID: "A-2", CallbackURL: "https://own.example/", NotAfter: late}, {ApplicationID: "A-3"},
	}), func(tasks.Result) {}))
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "B-1"})
	h.Must(err)
	k := h.book()
	r, _, err := k.Records.Get(t.Context(), "A-3")
	h.Must(err)
	_, err = k.Cancel(t.Context(), r)
	h.Must(err)
	h.Eventually("A-2 is too late", func() bool { return time.Now().After(late) })
	h.start(h.book(), h.faceki)
	h.Eventually("all are delivered", func() bool { return box.count() == 3 })
	got := map[string]string{}
	for _, d := range box.posted {
		got[d.ApplicationID] = d.Type + " to " + d.URL
	}
	want := map[string]string{"A-1": "link.created to https://batch.example/", "A-2": "link.failed to https://own.example/", "A-3": "link.cancelled to https://batch.example/"}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(h.deliveries("B-1")) != 0 {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An event that is dispatched several times is delivered once. One that is replayed is
// delivered if it was not.
func TestCallbacks_DeliverOnceHoweverOftenDispatched(t *testing.T) {
	answer := final
	h, box := mail(t, func(Delivery) Reply { return answer })
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", CallbackURL: "https://shop.example/"})
	h.Must(err)
	h.start(h.book(), h.faceki)
	h.Eventually("it is given up", func() bool {
		all := h.deliveries("A-1")
		return len(all) == 1 && all[0].Status == delivery.GivenUp
	})
	entries, err := h.Redis.XRange(t.Context(), h.Keys.Results(), "-", "+").Result()
	h.Must(err)
	event, err := tasks.ParseEvent(entries[0].Values)
	h.Must(err)
	k, queue := h.book(), asynq.NewClientFromRedisClient(h.Redis)
	enqueued := func() int {
		open, err := k.Deliveries.Open(t.Context(), []tasks.Event{event})
		h.Must(err)
		for _, one := range open {
			_, err := dispatch.Enqueue(t.Context(), queue, h.Keys.Account, one)
			h.Must(err)
		}
		return len(open)
	}
	if n := enqueued(); n != 0 {
		t.Errorf("what is given up was dispatched %d times", n)
	}
	box.mu.Lock()
	answer = accepted
	box.mu.Unlock()
	event.Replay = true
	if n := enqueued(); n != 1 {
		t.Errorf("what is given up and published again was dispatched %d times", n)
	}
	h.Eventually("it is delivered", func() bool { return h.deliveries("A-1")[0].Status == delivery.Delivered })
	if n := enqueued(); n != 0 || box.count() != 2 {
		t.Errorf("what was delivered and is published again was dispatched %d times, and posted %d times in all", n, box.count())
	}
	if d := h.deliveries("A-1")[0]; d.Attempts != 2 || !d.GivenUpAt.IsZero() || h.Redis.ZCard(t.Context(), h.Keys.Undelivered()).Val() != 0 {
		t.Errorf("it is %+v", d)
	}
}

// A pending delivery whose task Redis lost gets another one.
func TestCallbacks_AreRecoveredWithoutATask(t *testing.T) {
	h, box := mail(t, func(Delivery) Reply { return failing })
	h.cfg.Callbacks.Pauses = []time.Duration{time.Millisecond, time.Hour}
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", CallbackURL: "https://shop.example/"})
	h.Must(err)
	first := h.start(h.book(), h.faceki)
	pending := func() int64 { return h.Redis.ZCard(t.Context(), h.Keys.Pending()).Val() }
	h.Eventually("it waits for its third attempt", func() bool {
		all := h.deliveries("A-1")
		return len(all) == 1 && all[0].Attempts == 2 && all[0].Last.Code != 0
	})
	first.cancel()
	<-first.over
	s := h.recovery()
	if repaired := h.pass(s); len(repaired) != 0 {
		t.Errorf("repaired when nothing was lost: %v", repaired)
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Pending(), redis.Z{Score: 1, Member: h.deliveries("A-1")[0].EventID}).Err())
	if repaired := h.pass(s); len(repaired) != 0 {
		t.Errorf("repaired a task that is postponed: %v", repaired)
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Pending(), redis.Z{Score: 1, Member: h.deliveries("A-1")[0].EventID}, redis.Z{Score: 1, Member: "of-nothing"}).Err())
	asynqTasks, err := h.Redis.Keys(t.Context(), h.asynqKey(request.Callbacks, "*")).Result()
	h.Must(err)
	h.Must(h.Redis.Del(t.Context(), asynqTasks...).Err())
	if repaired := h.pass(s); repaired[recovery.Missing] != 1 || pending() != 1 {
		t.Errorf("repaired %v; %d are pending", repaired, pending())
	}
	before := box.count()
	box.mu.Lock()
	box.answer = func(Delivery) Reply { return accepted }
	box.mu.Unlock()
	h.start(h.book(), h.faceki)
	h.Eventually("it is delivered", func() bool { return h.deliveries("A-1")[0].Status == delivery.Delivered })
	if box.count() != before+1 || pending() != 0 {
		t.Errorf("posted %d times more; %d are pending", box.count()-before, pending())
	}
}
