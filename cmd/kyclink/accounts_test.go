package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// tenant is an account with a simulated FaceKi of its own.
type tenant struct {
	t      testing.TB
	name   string
	server *database
	sim    *simulator.Simulator
	client *tasks.Client
	file   string // its settings
}

// newTenant returns an account on a server. The simulator accepts only the secret "hush".
func newTenant(t testing.TB, server *database, name string, script string) *tenant {
	t.Helper()
	parsed, err := simulator.ParseScript([]byte(script))
	fixture.Must(t, err)
	sim, url := fixture.Upstream(t, simulator.Config{ClientID: name, ClientSecret: "hush", Script: parsed})
	return &tenant{
		t: t, name: name, server: server, sim: sim, client: tasks.NewClient(server.Client(t), tasks.Config{Account: name}),
		file: fmt.Sprintf("FACEKI_BASE_URL=%s\nFACEKI_CLIENT_ID=%s\nFACEKI_CLIENT_SECRET=hush\n", url, name),
	}
}

// enqueue enqueues n bulk requests, P-0001 and following.
func (a *tenant) enqueue(n int) {
	a.t.Helper()
	requests := make([]tasks.Request, n)
	for i := range requests {
		requests[i].ApplicationID = fmt.Sprintf("P-%04d", i+1)
	}
	fixture.Must(a.t, a.client.EnqueueAll(a.t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) {
		if r.Err != nil {
			a.t.Error(r.Err)
		}
	}))
}

// creates waits until the first n requests have their links.
func (a *tenant) creates(n int) {
	a.t.Helper()
	fixture.Eventually(a.t, a.name+" has its links", func() bool { return allCreated(links(a.t, a.client, n)) })
}

// signup requests a link for one person, and waits for it.
func (a *tenant) signup(id string) tasks.Link {
	a.t.Helper()
	_, err := a.client.Enqueue(a.t.Context(), tasks.Request{ApplicationID: id})
	fixture.Must(a.t, err)
	link, err := a.client.Wait(a.t.Context(), id)
	if err != nil || link.Status != tasks.Created {
		a.t.Fatalf("%s of %s is %s: %v", id, a.name, link.Status, err)
	}
	return link
}

// settings are those of a command for the account.
func (a *tenant) settings() []string {
	return []string{"KYCLINK_REDIS_URL=" + a.server.URL, "KYCLINK_ACCOUNT=" + a.name}
}

// run runs a command for the account.
func (a *tenant) run(args ...string) string {
	a.t.Helper()
	code, stdout, stderr := kyclink(a.t, a.settings(), args...)
	if code != 0 {
		a.t.Errorf("%s: %v: exit code %d: %s", a.name, args, code, stderr)
	}
	return stdout
}

// closes waits until the gate of the account is closed for a reason.
func (a *tenant) closes(reason string) {
	a.t.Helper()
	fixture.Eventually(a.t, a.name+"'s gate is closed", func() bool {
		g := status(a.t, a.settings()).Gate
		return g.State != "open" && g.Reason == reason
	})
}

func (a *tenant) script(script string) {
	a.t.Helper()
	parsed, err := simulator.ParseScript([]byte(script))
	fixture.Must(a.t, err)
	fixture.Must(a.t, a.sim.SetScript(parsed))
}

// serveTenants starts a worker process for accounts.
func serveTenants(t testing.TB, all ...*tenant) *process {
	t.Helper()
	dir := t.TempDir()
	for _, a := range all {
		fixture.Must(t, os.WriteFile(filepath.Join(dir, a.name+".env"), []byte(a.file), 0o600))
	}
	return start(t, []string{"KYCLINK_REDIS_URL=" + all[0].server.URL, "KYCLINK_ACCOUNTS=" + dir}, "worker", "--simulate")
}

// isolated runs a test with two accounts that one worker process serves, and two.
func isolated(t *testing.T, script string, test func(t *testing.T, ill, well *tenant)) {
	t.Parallel()
	for name, together := range map[string]bool{"one process": true, "two processes": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newRedis(t)
			ill, well := newTenant(t, server, "ill", script), newTenant(t, server, "well", `{}`)
			if together {
				serveTenants(t, ill, well)
			} else {
				serveTenants(t, ill)
				serveTenants(t, well)
			}
			test(t, ill, well)
			if s := well.sim.State(); s.SeveralLinks > 0 || s.LinkCalls != s.Links {
				t.Errorf("well made %d calls for %d links", s.LinkCalls, s.Links)
			}
		})
	}
}

// An outage of one account, with a backlog, delays no request of another.
func TestAccounts_AreIsolatedFromAnOutage(t *testing.T) {
	const backlog = 300
	isolated(t, `{"rules":[{"match":"*","fault":"http_503"}]}`, func(t *testing.T, ill, well *tenant) {
		ill.enqueue(backlog)
		ill.closes("outage")
		well.enqueue(40)
		well.creates(40)
		well.signup("S-1")
		s := status(t, ill.settings())
		if ill.sim.State().Links > 0 || s.Backlog.Bulk < backlog-50 || s.Gate.State == "open" {
			t.Errorf("the outage has ended: %+v", s)
		}
		if s := status(t, well.settings()); s.Gate.State != "open" || len(s.History) > 0 || s.Backlog.Bulk != 0 {
			t.Errorf("the other account is %+v", s)
		}
		ill.script(`{}`)
		ill.creates(backlog)
		if n := well.sim.State().Links; n != 41 {
			t.Errorf("%d links of well", n)
		}
	})
}

// Credentials that FaceKi refuses stop only their account.
func TestAccounts_AreIsolatedFromWrongCredentials(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	ill, well := newTenant(t, server, "ill", `{}`), newTenant(t, server, "well", `{}`)
	ill.file = strings.Replace(ill.file, "=hush", "=hush-hush-wrong", 1)
	w := serveTenants(t, ill, well)
	ill.enqueue(20)
	ill.closes("refused")
	well.enqueue(20)
	well.creates(20)
	if n := ill.sim.State().Links; n > 0 {
		t.Errorf("%d links with wrong credentials", n)
	}
	fixture.Eventually(t, "the log names the account", func() bool {
		for line := range strings.Lines(w.stderr.String()) {
			if strings.Contains(line, `"account":"ill"`) && strings.Contains(line, "refused") {
				return true
			}
		}
		return false
	})
	for line := range strings.Lines(w.stderr.String()) {
		if strings.Contains(line, "hush") {
			t.Errorf("the log has a secret: %s", line)
		}
	}
}

// A pause, and the erasure of a person, are those of one account.
func TestAccounts_AreIsolatedFromPauseAndErasure(t *testing.T) {
	isolated(t, `{}`, func(t *testing.T, ill, well *tenant) {
		ill.signup("P-0001")
		kept := well.signup("P-0001")
		ill.run("account", "pause")
		ill.enqueue(20)
		well.enqueue(20)
		well.creates(20)
		if n := ill.sim.State().Links; n != 1 {
			t.Errorf("%d links of an account that is paused", n)
		}
		ill.run("forget", "P-0001", "--yes")
		if _, err := ill.client.Get(t.Context(), "P-0001"); err == nil {
			t.Error("the person is not erased")
		}
		if got, err := well.client.Get(t.Context(), "P-0001"); err != nil || got.URL != kept.URL {
			t.Errorf("the person in the other account has the link %q, %v", got.URL, err)
		}
		ill.run("account", "resume")
		fixture.Eventually(t, "the others have their links", func() bool { return ill.sim.State().Links == 20 })
	})
}

// An account that cannot be joined does not stop the others. Log, health and metrics say so.
func TestAccounts_AreServedBesideOneThatCannotBeJoined(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	ill, well := newTenant(t, server, "ill", `{}`), newTenant(t, server, "well", `{}`)
	fixture.Must(t, storage.Of(server.Client(t), "ill").Fleet.Join(t.Context())) // as a worker of the real FaceKi
	w := serveTenants(t, ill, well)
	well.signup("S-1")
	fixture.Eventually(t, "the log says so", func() bool {
		return strings.Contains(w.stderr.String(), "account is not served; trying again") && strings.Contains(w.stderr.String(), `account \"ill\" is real`)
	})
	url := w.opsURL()
	fixture.Eventually(t, "/readyz names the ill account only", func() bool {
		code, text := look(t, url+"/readyz")
		return code == http.StatusServiceUnavailable && strings.HasPrefix(text, "account ill: ") && !strings.Contains(text, "account well: ")
	})
	var s scraped
	fixture.Eventually(t, "the attempt is counted", func() bool {
		s = scrapeAccount(t, url)
		return s.sum("kyclink_attempts_total", `account="well"`) > 0
	})
	s.expect(t, 0, "kyclink_account_ready", `account="ill"`)
	s.expect(t, 1, "kyclink_account_ready", `account="well"`)
	s.expect(t, 1, "kyclink_attempts_total", `account="well"`, `outcome="created"`)
	s.expect(t, 0, "kyclink_attempts_total", `account="ill"`)
	s.expect(t, 1, "kyclink_workers", `account="well"`)
	w.signal(syscall.SIGTERM)
	if code := w.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// An account that a user of Redis may not change does not stop the others. The log says what
// to do about it, and the start names each simulator.
func TestAccounts_AreServedBesideOneWithoutPermission(t *testing.T) {
	t.Parallel()
	server := &database{redistest.Start(t).URL}
	ill, well := newTenant(t, server, "ill", `{}`), newTenant(t, server, "well", `{}`)
	fixture.Must(t, server.Client(t).Do(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "~{kyclink:well}*", "~asynq:*").Err())
	w := serveTenants(t, ill, well)
	well.signup("S-1")
	fixture.Eventually(t, "the log says what to do", func() bool {
		for line := range strings.Lines(w.stderr.String()) {
			if strings.Contains(line, "account is not served; trying again") && strings.Contains(line, "NOPERM") {
				return strings.Contains(line, `"account":"ill"`) && strings.Contains(line, "give the user all rules of its role")
			}
		}
		return false
	})
	for _, a := range []*tenant{ill, well} {
		if url := strings.TrimPrefix(strings.Split(a.file, "\n")[0], "FACEKI_BASE_URL="); !strings.Contains(w.stderr.String(), "the simulator at "+url) {
			t.Errorf("the start does not name the simulator of %s", a.name)
		}
	}
}

// If no account works for the same reason, the health says so once.
func TestAllReady_SaysOnceWhatHappenedToManyAccounts(t *testing.T) {
	t.Parallel()
	all := make([]*servedAccount, 200)
	for i := range all {
		all[i] = &servedAccount{engine: &engine{cfg: config.Config{Account: fmt.Sprintf("shop-%d", i)}}}
	}
	if err := allReady(all); err == nil || !strings.HasPrefix(err.Error(), "200 accounts (shop-0, shop-1, shop-2, …): ") || strings.Count(err.Error(), "joined") != 1 {
		t.Errorf("got %.500v", err)
	}
	if err := allReady(nil); err != nil {
		t.Errorf("got %v of no accounts", err)
	}
}

// FaceKi limits accounts with the same client together: the start warns of them, without
// their secret, and joins them.
func TestAccounts_WarnOfTheSameClient(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	dir := t.TempDir()
	for name, client := range map[string]string{"bank": "shared", "post": "own", "shop": "shared"} {
		content := fmt.Sprintf("FACEKI_CLIENT_ID=%s\nFACEKI_CLIENT_SECRET=hush-hush\nFACEKI_BASE_URL=http://127.0.0.1:1\n", client)
		fixture.Must(t, os.WriteFile(filepath.Join(dir, name+".env"), []byte(content), 0o600))
	}
	w := start(t, []string{"KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_ACCOUNTS=" + dir}, "worker")
	url := w.opsURL()
	fixture.Eventually(t, "it is ready", func() bool { code, _ := look(t, url+"/readyz"); return code == http.StatusOK })
	var warnings []string
	for line := range strings.Lines(w.stderr.String()) {
		if strings.Contains(line, "same FaceKi client") {
			warnings = append(warnings, line)
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "bank.env") || !strings.Contains(warnings[0], "shop.env") || strings.Contains(warnings[0], "post.env") {
		t.Errorf("the warnings are %q, want one that names bank.env and shop.env", warnings)
	}
	if strings.Contains(w.stderr.String(), "hush") {
		t.Error("the log has the secret")
	}
}

// Wrong settings in one file end the start, before any account is joined.
func TestAccounts_NoneIsServedWithWrongSettings(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	ill, well := newTenant(t, server, "ill", `{}`), newTenant(t, server, "well", `{}`)
	ill.file += "FACEKI_RATE=fast\n"
	w := serveTenants(t, ill, well)
	if code := w.exit(); code != 78 || !strings.Contains(w.stderr.String(), "ill.env:4: FACEKI_RATE is wrong") {
		t.Errorf("exit code %d: %s", code, w.stderr.String())
	}
	if keys := server.Client(t).Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("the start has written %v", keys)
	}
}

// The worker of an account that rests delivers callbacks and reads the intake stream as soon
// as there are any.
func TestAccounts_WakeForIntakeAndCallbacks(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	a := newTenant(t, server, "shop", `{}`)
	receiver := newReceiver(t, 0, 0, newSecret)
	for _, setting := range hooked("", server, newSecret) {
		if strings.HasPrefix(setting, "KYCLINK_CALLBACK") {
			a.file += setting + "\n"
		}
	}
	w := serveTenants(t, a)
	url := w.opsURL()
	fixture.Eventually(t, "it is ready", func() bool { code, _ := look(t, url+"/readyz"); return code == http.StatusOK })
	fixture.Must(t, server.Client(t).XAdd(t.Context(), &redis.XAddArgs{
		Stream: "{kyclink:shop}:requests", Values: []string{"application_id", "I-1", "callback_url", receiver.url()},
	}).Err())
	fixture.Eventually(t, "the callback is delivered", func() bool { return receiver.events() == 1 })
	fixture.Eventually(t, "the entry is counted", func() bool {
		return scrapeAccount(t, url).sum("kyclink_intake_entries_total", `account="shop"`, `result="accepted"`) == 1
	})
}

// Two processes serve an account. When one of them dies with calls in flight, the other one,
// which has rested before, continues them.
func TestAccounts_ContinueWhenAProcessDies(t *testing.T) {
	t.Parallel()
	const requests = 30
	server := newRedis(t)
	a := newTenant(t, server, "shop", `{"rules":[{"match":"*","fault":"hang"}]}`)
	a.file += "KYCLINK_CONCURRENCY=10\nFACEKI_TIMEOUT=1m\n"
	other, dying := serveTenants(t, a), serveTenants(t, a)
	for _, p := range []*process{other, dying} {
		url := p.opsURL()
		fixture.Eventually(t, "it is ready", func() bool { code, _ := look(t, url+"/readyz"); return code == http.StatusOK })
	}
	other.signal(syscall.SIGSTOP) // so that the calls are those of the process that dies
	a.enqueue(requests)
	fixture.Eventually(t, "calls are in flight", func() bool { return a.sim.State().InFlight > 0 })
	other.signal(syscall.SIGCONT)
	dying.kill()
	a.script(`{}`)
	a.sim.Release()
	a.creates(requests)
	if duplicates := statusOf(t, a.settings(), "spring").PossibleDuplicates; duplicates == 0 {
		t.Error("no call was in flight in the process that died")
	}
}
