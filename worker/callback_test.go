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
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// postbox answers callbacks as told.
type postbox struct {
	mu     sync.Mutex
	answer func(d delivery.Delivery) delivery.Reply
	posted []delivery.Delivery
}

func (p *postbox) Post(_ context.Context, d delivery.Delivery) delivery.Reply {
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

// mail is a bench whose requests may have a callback URL, and a worker that sends
// callbacks to a postbox.
func mail(t *testing.T, answer func(d delivery.Delivery) delivery.Reply) (*bench, *postbox) {
	b := newBench(t, simulator.Script{})
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: b.keys.Account, Callbacks: tasks.Callbacks{
		Hosts: []string{"*"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	box := &postbox{answer: answer}
	b.cfg.Callbacks, b.cfg.CallbackPauses = box, []time.Duration{time.Millisecond, time.Millisecond}
	return b, box
}

func (b *bench) deliveries(id string) []delivery.Delivery {
	b.t.Helper()
	all, err := b.book().Deliveries(b.t.Context(), id)
	b.must(err)
	return all
}

var (
	accepted  = delivery.Reply{Code: 200}
	failing   = delivery.Reply{Code: 500, Reason: "receiver_error", Message: "HTTP 500", Body: "oops"}
	final     = delivery.Reply{Code: 404, Reason: "rejected", Message: "HTTP 404", Final: true}
	proxyDown = delivery.Reply{Reason: "proxy_error", Message: "the proxy cannot be reached", NoAttempt: true}
)

func TestCallbackIsTriedUntilItIsTakenOrGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		answers  []delivery.Reply // the last one for ever
		status   delivery.Status
		attempts int
		posts    int
	}{
		"at once":                           {[]delivery.Reply{accepted}, delivery.Delivered, 1, 1},
		"after a failure":                   {[]delivery.Reply{failing, accepted}, delivery.Delivered, 2, 2},
		"never":                             {[]delivery.Reply{failing}, delivery.GivenUp, 3, 3}, // there are two pauses
		"it says no":                        {[]delivery.Reply{failing, final}, delivery.GivenUp, 2, 2},
		"our own proxy's failures are none": {[]delivery.Reply{proxyDown, proxyDown, proxyDown, proxyDown, accepted}, delivery.Delivered, 1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			b, box := mail(t, func(delivery.Delivery) delivery.Reply { n++; return c.answers[min(n, len(c.answers))-1] })
			_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", CallbackURL: "https://Shop.example:8443/hooks?key=1"})
			b.must(err)
			b.start(b.book(), b.faceki)
			b.eventually("it is over", func() bool {
				all := b.deliveries("A-1")
				return len(all) == 1 && all[0].Status != delivery.Pending
			})
			d := b.deliveries("A-1")[0]
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

// Every end is delivered, whoever caused it, and by the batch's URL where the
// request has none; what has none at all is not.
func TestEveryEndIsDelivered(t *testing.T) {
	b, box := mail(t, func(delivery.Delivery) delivery.Reply { return accepted })
	late := time.Now().Add(1500 * time.Millisecond)
	b.must(b.client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring", Options: tasks.Options{CallbackURL: "https://batch.example/"}}, tasks.Rows([]tasks.Request{
		{ApplicationID: "A-1"}, {ApplicationID: "A-2", CallbackURL: "https://own.example/", NotAfter: late}, {ApplicationID: "A-3"},
	}), func(tasks.Result) {}))
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "B-1"})
	b.must(err)
	k := b.book()
	r, _, err := k.Get(t.Context(), "A-3")
	b.must(err)
	_, err = k.Cancel(t.Context(), r)
	b.must(err)
	b.eventually("A-2 is too late", func() bool { return time.Now().After(late) })
	b.start(b.book(), b.faceki)
	b.eventually("all are delivered", func() bool { return box.count() == 3 })
	got := map[string]string{}
	for _, d := range box.posted {
		got[d.ApplicationID] = d.Type + " to " + d.Host
	}
	want := map[string]string{"A-1": "link.created to batch.example", "A-2": "link.failed to own.example", "A-3": "link.cancelled to batch.example"}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(b.deliveries("B-1")) != 0 {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An event may be dispatched as often as it likes: it is delivered once. One that is
// published again is delivered where it was not.
func TestDispatchedAgain(t *testing.T) {
	answer := final
	b, box := mail(t, func(delivery.Delivery) delivery.Reply { return answer })
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", CallbackURL: "https://shop.example/"})
	b.must(err)
	b.start(b.book(), b.faceki)
	b.eventually("it is given up", func() bool {
		all := b.deliveries("A-1")
		return len(all) == 1 && all[0].Status == delivery.GivenUp
	})
	entries, err := b.rdb.XRange(t.Context(), b.keys.Results(), "-", "+").Result()
	b.must(err)
	event, err := tasks.ParseEvent(entries[0].Values)
	b.must(err)
	k, queue := b.book(), asynq.NewClientFromRedisClient(b.rdb)
	dispatch := func() int {
		open, err := k.OpenDeliveries(t.Context(), []tasks.Event{event})
		b.must(err)
		for _, one := range open {
			_, err := EnqueueCallback(t.Context(), queue, b.keys.Account, one)
			b.must(err)
		}
		return len(open)
	}
	if n := dispatch(); n != 0 {
		t.Errorf("what is given up was dispatched %d times", n)
	}
	box.mu.Lock()
	answer = accepted
	box.mu.Unlock()
	event.Replay = true
	if n := dispatch(); n != 1 {
		t.Errorf("what is given up and published again was dispatched %d times", n)
	}
	b.eventually("it is delivered", func() bool { return b.deliveries("A-1")[0].Status == delivery.Delivered })
	if n := dispatch(); n != 0 || box.count() != 2 {
		t.Errorf("what was delivered and is published again was dispatched %d times, and posted %d times in all", n, box.count())
	}
	if d := b.deliveries("A-1")[0]; d.Attempts != 2 || !d.GivenUpAt.IsZero() || b.rdb.ZCard(t.Context(), b.keys.Undelivered()).Val() != 0 {
		t.Errorf("it is %+v", d)
	}
}

// Redis may lose a callback's task and keep all else: it gets another, where it has
// none and is not over.
func TestCallbackWithoutATask(t *testing.T) {
	b, box := mail(t, func(delivery.Delivery) delivery.Reply { return failing })
	b.cfg.CallbackPauses = []time.Duration{time.Millisecond, time.Hour}
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", CallbackURL: "https://shop.example/"})
	b.must(err)
	first := b.start(b.book(), b.faceki)
	pending := func() int64 { return b.rdb.ZCard(t.Context(), b.keys.Pending()).Val() }
	b.eventually("it waits for its third attempt", func() bool {
		all := b.deliveries("A-1")
		return len(all) == 1 && all[0].Attempts == 2 && all[0].Last.Code != 0
	})
	first.cancel()
	<-first.over
	s := b.sweeps()
	if mended := b.pass(s); len(mended) != 0 {
		t.Errorf("mended where nothing was lost: %v", mended)
	}
	b.must(b.rdb.ZAdd(t.Context(), b.keys.Pending(), redis.Z{Score: 1, Member: b.deliveries("A-1")[0].EventID}).Err())
	if mended := b.pass(s); len(mended) != 0 {
		t.Errorf("mended a task that is put off: %v", mended)
	}
	b.must(b.rdb.ZAdd(t.Context(), b.keys.Pending(), redis.Z{Score: 1, Member: b.deliveries("A-1")[0].EventID}, redis.Z{Score: 1, Member: "of-nothing"}).Err())
	asynqTasks, err := b.rdb.Keys(t.Context(), b.asynqKey(request.Callbacks, "*")).Result()
	b.must(err)
	b.must(b.rdb.Del(t.Context(), asynqTasks...).Err())
	if mended := b.pass(s); mended[missing] != 1 || pending() != 1 {
		t.Errorf("mended %v; %d are pending", mended, pending())
	}
	before := box.count()
	box.mu.Lock()
	box.answer = func(delivery.Delivery) delivery.Reply { return accepted }
	box.mu.Unlock()
	b.start(b.book(), b.faceki)
	b.eventually("it is delivered", func() bool { return b.deliveries("A-1")[0].Status == delivery.Delivered })
	if box.count() != before+1 || pending() != 0 {
		t.Errorf("posted %d times more; %d are pending", box.count()-before, pending())
	}
}

// One receiver that does not answer holds few handlers, and is not asked in a hot
// loop; the others do not notice.
func TestDeadHostCostsLittle(t *testing.T) {
	s := newHosts()
	now := time.Now()
	s.now = func() time.Time { return now }
	for range 16 {
		if _, ok := s.enter(t.Context(), "dead"); !ok {
			t.Fatal("there is no place for the first ones")
		}
	}
	if putOff, ok := s.enter(t.Context(), "dead"); ok || putOff > 2*time.Second {
		t.Errorf("the seventeenth of a host: %v, put off for %v", ok, putOff)
	}
	for range 16 {
		s.leave("dead", heard{15 * time.Second, false})
	}
	in, last, total := 0, time.Duration(0), 1000
	for range total {
		putOff, ok := s.enter(t.Context(), "dead")
		if ok {
			in++
			continue
		}
		if putOff < time.Second || putOff > 6*time.Minute {
			t.Fatalf("put off for %v", putOff)
		}
		last = max(last, putOff)
	}
	if in != 2 || last < 150*time.Second {
		t.Errorf("%d of %d handlers for a dead host; the longest was put off for %v", in, total, last)
	}
	if _, ok := s.enter(t.Context(), "alive"); !ok {
		t.Error("another host has to wait")
	}
	s.leave("dead", heard{})
	s.enter(t.Context(), "dead")
	if _, ok := s.enter(t.Context(), "dead"); ok {
		t.Error("a host that was not asked is not dead any more")
	}
	s.leave("dead", heard{time.Millisecond, true})
	for range 10 {
		if _, ok := s.enter(t.Context(), "dead"); !ok {
			t.Fatal("a host that answers again is treated as dead")
		}
	}
	now = now.Add(time.Second)
	for range 10 {
		s.leave("dead", heard{}) // as where our own proxy is away
	}
	for range 10 {
		if _, ok := s.enter(t.Context(), "dead"); !ok {
			t.Fatal("a host that was not asked is treated as dead")
		}
	}
}

// Many attempts that hang at a time are no sign of death while others are answered.
func TestHostThatHangsNowAndThen(t *testing.T) {
	s := newHosts()
	now := time.Now()
	s.now = func() time.Time { return now }
	for range 16 {
		s.enter(t.Context(), "odd")
	}
	now = now.Add(14 * time.Second)
	s.leave("odd", heard{time.Millisecond, true})
	now = now.Add(time.Second)
	for range 15 {
		s.leave("odd", heard{15 * time.Second, false})
	}
	for range 16 {
		if _, ok := s.enter(t.Context(), "odd"); !ok {
			t.Fatal("it is treated as dead")
		}
	}
}

func TestHostsAreForgotten(t *testing.T) {
	s := newHosts()
	for i := range 100 {
		name := fmt.Sprint(i)
		s.enter(t.Context(), name)
		s.leave(name, heard{time.Millisecond, true})
	}
	if len(s.known) != 0 {
		t.Errorf("%d hosts are remembered", len(s.known))
	}
}
