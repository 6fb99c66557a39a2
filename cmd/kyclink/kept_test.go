package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// A link on a host that is not allowed is paid for. It is kept encrypted, and is used
// without another call when its host is allowed.
func TestWorker_KeepsALinkOnAnotherHost(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"foreign_url","host":"links.faceki.example"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_CLIENT_ID=invented-id", "FACEKI_CLIENT_SECRET=invented-secret"}
	const n = 3
	client := enqueue(t, rdb, n)
	held := func() bool { return len(with(links(t, client, n), tasks.Held)) == n }
	w := start(t, settings, "worker")
	fixture.Eventually(t, "all are held", held)
	for _, l := range links(t, client, n) {
		if l.Reason != "unusable_answer" || l.PossibleDuplicates != 0 || l.Attempts != 1 || l.URL != "" ||
			!strings.Contains(l.Message, "links.faceki.example") || !strings.Contains(l.Message, "FACEKI_LINK_HOSTS") {
			t.Errorf("%+v", l)
		}
	}
	if g := status(t, settings).Gate; !strings.Contains(g.Message, "links.faceki.example, which is not in FACEKI_LINK_HOSTS") {
		t.Errorf("the message of the gate is %q", g.Message)
	}
	expect := expecter(t, settings)
	expect(0, "uses the link that was kept, without a call", "", "show", "P-0001")
	urls := map[string]string{}
	for _, l := range links(t, client, n) {
		id := sim.Application(l.ApplicationID).Links[0].LinkID
		urls[l.ApplicationID] = "https://links.faceki.example/kycverify/" + id
		for _, key := range rdb.Keys(t.Context(), "*").Val() {
			if kept := rdb.Dump(t.Context(), key).Val(); strings.Contains(kept, id) {
				t.Errorf("%s holds the id of a link that is kept", key)
			}
		}
	}

	again := counted(t, rdb, "link.held")
	expect(0, "", "kyclink: 3 retried", "held", "retry", "--all") // the settings have not changed
	fixture.Eventually(t, "all are held again", func() bool { return len(again) == n && counted(t, rdb, "link.held")["P-0001"] == 2 && held() })
	if calls := sim.State().LinkCalls; calls != n {
		t.Errorf("%d calls for %d links", calls, n)
	}
	w.signal(syscall.SIGTERM)
	w.exit()

	// With other credentials the link cannot be decrypted, and no second link is bought.
	other := start(t, append(settings[:len(settings)-1:len(settings)-1], "FACEKI_CLIENT_SECRET=invented-other", "FACEKI_LINK_HOSTS=links.faceki.example"), "worker")
	expect(0, "", "kyclink: 1 retried", "held", "retry", "P-0001")
	fixture.Eventually(t, "it is held again", func() bool { return counted(t, rdb, "link.held")["P-0001"] == 3 && held() })
	expect(0, "encrypted with another client secret", "", "show", "P-0001")
	other.signal(syscall.SIGTERM)
	other.exit()

	w = start(t, append(settings, "FACEKI_LINK_HOSTS=apps.faceki.com,links.faceki.example"), "worker")
	expect(0, "", "kyclink: 3 retried", "held", "retry", "--all")
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, n)) })
	for _, l := range links(t, client, n) {
		if l.URL != urls[l.ApplicationID] || l.PossibleDuplicates != 0 || l.Attempts != 1 || l.ExpiresAt.Sub(l.EndedAt) >= 24*60*60*1e9 {
			t.Errorf("%+v, want %s", l, urls[l.ApplicationID])
		}
	}
	if calls := sim.State().LinkCalls; calls != n {
		t.Errorf("%d calls for %d links", calls, n)
	}
	if created := counted(t, rdb, "link.created"); !onceEach(created, n) {
		t.Errorf("events: %v", created)
	}
	for _, said := range []string{w.stderr.String(), other.stderr.String()} {
		for _, url := range urls {
			if strings.Contains(said, url) {
				t.Errorf("a log contains %s", url)
			}
		}
	}
	if s := status(t, settings); s.Calls != 0 || s.Gate.State != "open" {
		t.Errorf("the gate is %+v", s.Gate)
	}
	expect(0, fmt.Sprint(n), "", "batch", "check", "spring")
}
