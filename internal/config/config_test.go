package config_test

import (
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/logging"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { fixture.Main(m) }

// environ returns a map in the form of os.Environ.
func environ(variables map[string]string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		list = append(list, name+"="+variables[name])
	}
	return list
}

// file returns the path of a new file with the content.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func perSecond(n int) config.Rate { return config.Rate{Rate: admission.Rate{N: n, Per: time.Second}} }

func TestLoad_Defaults(t *testing.T) {
	c, err := config.Load([]string{"PATH=/bin", "HOME=", "FACEKI_CLIENT_ID=id", "FACEKI_CLIENT_SECRET=secret"}, config.Needs{FaceKi: true})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Account: "default",
		Redis:   config.Redis{Mode: config.Single},
		FaceKi: faceki.Config{
			ClientID: "id", ClientSecret: "secret", BaseURL: "https://sdk.faceki.com", Auth: "post", ExpiryType: "number",
			LinkHosts: []string{"apps.faceki.com"}, Timeout: 15 * time.Second,
		},
		Work: config.Work{
			ExpiryMinutes: 1440, OnUnknown: config.Retry, MaxAttempts: 8, Retention: 720 * time.Hour, ResultsAge: 168 * time.Hour, ResultsCap: 10_000_000, Concurrency: config.Auto, Rate: perSecond(5), Burst: 5,
		},
		Log: logging.Config{Level: "info"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if !c.EmbeddedRedis() {
		t.Error("EmbeddedRedis is false, although no Redis is set")
	}
}

const hookSecret = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh"

func TestLoad_ReadsEverySetting(t *testing.T) {
	c, err := config.Load(environ(map[string]string{
		"KYCLINK_ACCOUNT": "shop-2", "KYCLINK_REDIS_URL": "redis://h1:26379?master_name=m", "KYCLINK_REDIS_MODE": "sentinel",
		"KYCLINK_REDIS_ALLOW_EVICTION": "true", "KYCLINK_REDIS_ALLOW_SKIP_VERIFY": "true", "FACEKI_CLIENT_ID": "id", "FACEKI_CLIENT_SECRET": "secret",
		"FACEKI_BASE_URL": "http://127.0.0.1:9999/x", "FACEKI_AUTH": "get", "FACEKI_EXPIRY_TYPE": "string",
		"FACEKI_LINK_HOSTS": "a.example,b.example", "FACEKI_TIMEOUT": "2s", "FACEKI_WORKFLOW_ID": "w",
		"KYCLINK_EXPIRY_MINUTES": "1", "KYCLINK_MAX_ATTEMPTS": "99", "KYCLINK_CONCURRENCY": "1000",
		"KYCLINK_ON_UNKNOWN": "retry", "KYCLINK_RETENTION": "48h", "KYCLINK_RESULTS_AGE": "24h", "KYCLINK_RESULTS_CAP": "5000", "FACEKI_RATE": "90/h", "FACEKI_BURST": "12",
		"KYCLINK_LOG_LEVEL": "debug", "KYCLINK_LOG_FORMAT": "json", "KYCLINK_REDIRECT_HOSTS": "shop.example,*",
		"KYCLINK_CALLBACK_SECRET": hookSecret + " " + hookSecret, "KYCLINK_CALLBACK_HOSTS": "shop.example,*",
		"KYCLINK_CALLBACK_ALLOW_CIDRS": "127.0.0.0/8,fd00::/8", "KYCLINK_CALLBACK_PROXY": "http://user:pass@proxy.example:3128",
	}), config.Needs{FaceKi: true, Redis: true, Terminal: true})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Account: "shop-2",
		Redis:   config.Redis{URL: "redis://h1:26379?master_name=m", Mode: config.Sentinel, AllowEviction: true, AllowSkipVerify: true},
		FaceKi: faceki.Config{
			ClientID: "id", ClientSecret: "secret", BaseURL: "http://127.0.0.1:9999/x", Auth: "get", ExpiryType: "string",
			LinkHosts: []string{"a.example", "b.example"}, Timeout: 2 * time.Second,
		},
		Work: config.Work{
			WorkflowID: "w", ExpiryMinutes: 1, OnUnknown: config.Retry, MaxAttempts: 99, Retention: 48 * time.Hour, ResultsAge: 24 * time.Hour, ResultsCap: 5000, Concurrency: 1000,
			Rate: config.Rate{Rate: admission.Rate{N: 90, Per: time.Hour}}, Burst: 12,
		},
		RedirectHosts: []string{"shop.example", "*"},
		Callback: callback.Config{
			Secret: hookSecret + " " + hookSecret, Hosts: []string{"shop.example", "*"}, AllowCIDRs: []string{"127.0.0.0/8", "fd00::/8"},
			Proxy: "http://user:pass@proxy.example:3128",
		},
		Log: logging.Config{Level: "debug", Format: "json"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestLoad_ChoosesUpstreamAndRedisSeparately(t *testing.T) {
	const redisURL = "redis://127.0.0.1:6379/0"
	credentials := map[string]string{"FACEKI_CLIENT_ID": "id", "FACEKI_CLIENT_SECRET": "secret"}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(credentials)
		maps.Copy(all, more)
		return all
	}
	for name, tt := range map[string]struct {
		set                            map[string]string
		simulate                       bool
		embedded, simulated, inProcess bool
		baseURL                        string
	}{
		"FaceKi only":        {credentials, false, true, false, false, "https://sdk.faceki.com"},
		"both":               {with(map[string]string{"KYCLINK_REDIS_URL": redisURL}), false, false, false, false, "https://sdk.faceki.com"},
		"--simulate":         {nil, true, true, true, true, ""},
		"--simulate, Redis":  {map[string]string{"KYCLINK_REDIS_URL": redisURL}, true, false, true, true, ""},
		"--simulate, FaceKi": {credentials, true, true, true, true, ""},
		"--simulate at":      {map[string]string{"FACEKI_BASE_URL": "http://localhost:9"}, true, true, true, false, "http://localhost:9"},
		"a URL of FaceKi":    {with(map[string]string{"FACEKI_BASE_URL": "http://localhost:9"}), false, true, false, false, "http://localhost:9"},
	} {
		c, err := config.Load(environ(tt.set), config.Needs{FaceKi: true, Simulate: tt.simulate})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.EmbeddedRedis() != tt.embedded || c.FaceKi.Simulated != tt.simulated || c.InProcess != tt.inProcess ||
			c.FaceKi.BaseURL != tt.baseURL {
			t.Errorf("%s: got embedded %v, simulated %v, in process %v, base URL %q; want %+v",
				name, c.EmbeddedRedis(), c.FaceKi.Simulated, c.InProcess, c.FaceKi.BaseURL, tt)
		}
	}
}

// Only the simulator in this process has a higher default rate.
func TestLoad_RateFollowsUpstream(t *testing.T) {
	for name, tt := range map[string]struct {
		set      map[string]string
		simulate bool
		want     config.Rate
	}{
		"in process":             {nil, true, perSecond(200)},
		"in process, FaceKi set": {map[string]string{"FACEKI_CLIENT_ID": "id", "FACEKI_CLIENT_SECRET": "secret"}, true, perSecond(200)},
		"in process, given":      {map[string]string{"FACEKI_RATE": "7/s"}, true, perSecond(7)},
		"simulator elsewhere":    {map[string]string{"FACEKI_BASE_URL": "http://localhost:9"}, true, perSecond(5)},
		"FaceKi":                 {map[string]string{"FACEKI_CLIENT_ID": "id", "FACEKI_CLIENT_SECRET": "secret"}, false, perSecond(5)},
	} {
		c, err := config.Load(environ(tt.set), config.Needs{FaceKi: true, Simulate: tt.simulate})
		if err != nil || c.Work.Rate != tt.want || c.Work.Burst != 5 {
			t.Errorf("%s: got %v, burst %d, %v; want %v", name, c.Work.Rate, c.Work.Burst, err, tt.want)
		}
	}
}

// Missing credentials must not lead to simulated links: only --simulate selects a
// simulator, and the error says so.
func TestLoad_RefusesMissingCredentials(t *testing.T) {
	for name, set := range map[string]map[string]string{
		"nothing":            nil,
		"a shared Redis":     {"KYCLINK_REDIS_URL": "redis://127.0.0.1:6379/0"},
		"a base URL":         {"FACEKI_BASE_URL": "http://localhost:9"},
		"a rate and a Redis": {"KYCLINK_REDIS_URL": "redis://127.0.0.1:6379/0", "FACEKI_RATE": "7/s"},
	} {
		_, err := config.Load(environ(set), config.Needs{FaceKi: true})
		problems := problemsOf(t, err)
		if len(problems) != 2 || !strings.HasPrefix(problems[0], "FACEKI_CLIENT_ID is missing") ||
			!strings.HasPrefix(problems[1], "FACEKI_CLIENT_SECRET is missing") || !strings.Contains(problems[0], "--simulate") {
			t.Errorf("%s: got problems %q, want a missing id and secret", name, problems)
		}
	}
}

func TestLoad_ReadsValuesFromFiles(t *testing.T) {
	c, err := config.Load(environ(map[string]string{
		"FACEKI_CLIENT_ID_FILE":     file(t, "id\n"),
		"FACEKI_CLIENT_SECRET_FILE": file(t, "s3 cret\r\n"),
		"KYCLINK_REDIS_URL_FILE":    file(t, "redis://127.0.0.1:6379/1"),

		"KYCLINK_CALLBACK_PROXY_FILE": file(t, "http://user:password@proxy.example:3128\n"),
	}), config.Needs{FaceKi: true, Redis: true})
	if err != nil {
		t.Fatal(err)
	}
	if c.FaceKi.ClientID != "id" || c.FaceKi.ClientSecret != "s3 cret" || c.Redis.URL != "redis://127.0.0.1:6379/1" {
		t.Errorf("got %q, %q, %q", c.FaceKi.ClientID, string(c.FaceKi.ClientSecret), string(c.Redis.URL))
	}
	if c.Callback.Proxy != "http://user:password@proxy.example:3128" {
		t.Errorf("got proxy %q", string(c.Callback.Proxy))
	}
	if c.FaceKi.Simulated {
		t.Error("the simulator was selected, although files have credentials")
	}
}

func TestLoad_LogFormatFollowsTerminal(t *testing.T) {
	for _, tt := range []struct {
		set      []string
		terminal bool
		want     string
	}{
		{nil, true, logging.Console},
		{nil, false, ""},
		{[]string{"KYCLINK_LOG_FORMAT=json"}, true, logging.JSON},
		{[]string{"KYCLINK_LOG_FORMAT=console"}, false, logging.Console},
	} {
		c, err := config.Load(tt.set, config.Needs{Terminal: tt.terminal})
		if err != nil || c.Log.Format != tt.want {
			t.Errorf("%v, terminal %v: got %q, %v; want %q", tt.set, tt.terminal, c.Log.Format, err, tt.want)
		}
	}
}

func TestLoad_RefusesEmptyValues(t *testing.T) {
	for _, name := range []string{
		"KYCLINK_REDIS_URL", "KYCLINK_REDIS_URL_FILE", "KYCLINK_REDIS_MODE", "KYCLINK_REDIS_ALLOW_EVICTION", "KYCLINK_REDIS_ALLOW_SKIP_VERIFY", "KYCLINK_ACCOUNT",
		"FACEKI_CLIENT_ID", "FACEKI_CLIENT_ID_FILE", "FACEKI_CLIENT_SECRET", "FACEKI_CLIENT_SECRET_FILE", "FACEKI_BASE_URL",
		"FACEKI_AUTH", "FACEKI_EXPIRY_TYPE", "FACEKI_LINK_HOSTS", "FACEKI_TIMEOUT", "FACEKI_WORKFLOW_ID",
		"KYCLINK_EXPIRY_MINUTES", "KYCLINK_MAX_ATTEMPTS", "KYCLINK_CONCURRENCY", "KYCLINK_LOG_LEVEL", "KYCLINK_LOG_FORMAT",
		"KYCLINK_ON_UNKNOWN", "KYCLINK_MAX_BACKLOG", "FACEKI_RATE", "FACEKI_BURST",
		"KYCLINK_CALLBACK_SECRET", "KYCLINK_CALLBACK_SECRET_FILE", "KYCLINK_CALLBACK_HOSTS", "KYCLINK_CALLBACK_ALLOW_CIDRS", "KYCLINK_CALLBACK_PROXY", "KYCLINK_CALLBACK_PROXY_FILE",
	} {
		_, err := config.Load([]string{name + "="}, config.Needs{FaceKi: true, Simulate: true})
		if problems := problemsOf(t, err); len(problems) != 1 || !strings.HasPrefix(problems[0], name+" is empty; ") {
			t.Errorf("%s: got problems %q, want one", name, problems)
		}
	}
}

// problemsOf returns the problems of a config.Error.
func problemsOf(t *testing.T, err error) []string {
	t.Helper()
	var e *config.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("got error %v of type %T, want a config.Error", err, err)
	}
	if e == nil {
		return nil
	}
	return e.Problems
}

func TestLoad_RefusesContradictions(t *testing.T) {
	secret := file(t, "secret")
	for name, tt := range map[string]struct {
		set   map[string]string
		needs config.Needs
		want  []string // what each problem starts with
	}{
		"secret without id":     {map[string]string{"FACEKI_CLIENT_SECRET": "x"}, config.Needs{FaceKi: true}, []string{"FACEKI_CLIENT_ID is missing"}},
		"id without secret":     {map[string]string{"FACEKI_CLIENT_ID": "x"}, config.Needs{FaceKi: true}, []string{"FACEKI_CLIENT_SECRET is missing"}},
		"base URL alone":        {map[string]string{"FACEKI_BASE_URL": "https://x.example"}, config.Needs{FaceKi: true}, []string{"FACEKI_CLIENT_ID is missing", "FACEKI_CLIENT_SECRET is missing"}},
		"empty id and a secret": {map[string]string{"FACEKI_CLIENT_ID": "", "FACEKI_CLIENT_SECRET": "x"}, config.Needs{FaceKi: true}, []string{"FACEKI_CLIENT_ID is empty"}},
		"value and file": {map[string]string{"FACEKI_CLIENT_ID": "x", "FACEKI_CLIENT_SECRET": "x", "FACEKI_CLIENT_SECRET_FILE": secret}, config.Needs{FaceKi: true},
			[]string{"FACEKI_CLIENT_SECRET_FILE and FACEKI_CLIENT_SECRET are both set"}},
		"no such file":               {map[string]string{"FACEKI_CLIENT_ID": "x", "FACEKI_CLIENT_SECRET_FILE": secret + "-not"}, config.Needs{FaceKi: true}, []string{"FACEKI_CLIENT_SECRET_FILE cannot be read"}},
		"empty file":                 {map[string]string{"FACEKI_CLIENT_ID": "x", "FACEKI_CLIENT_SECRET_FILE": file(t, "\n")}, config.Needs{FaceKi: true}, []string{"FACEKI_CLIENT_SECRET_FILE names "}},
		"mode without URL":           {map[string]string{"KYCLINK_REDIS_MODE": "cluster"}, config.Needs{FaceKi: true, Simulate: true}, []string{`KYCLINK_REDIS_MODE is "cluster" without`}},
		"Redis needed":               {nil, config.Needs{FaceKi: true, Simulate: true, Redis: true}, []string{"KYCLINK_REDIS_URL is missing"}},
		"plain http":                 {map[string]string{"FACEKI_BASE_URL": "http://x.example"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_BASE_URL is plain http"}},
		"simulate FaceKi":            {map[string]string{"FACEKI_BASE_URL": "https://sdk.faceki.com"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_BASE_URL is FaceKi itself"}},
		"simulated link host":        {map[string]string{"FACEKI_LINK_HOSTS": "simulator.invalid"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_LINK_HOSTS holds"}},
		"timeout too long":           {map[string]string{"FACEKI_TIMEOUT": "61s"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_TIMEOUT is 1m1s; use at most 1m0s"}},
		"simulate FaceKi.":           {map[string]string{"FACEKI_BASE_URL": "https://SDK.FaceKi.com.:443/"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_BASE_URL is FaceKi itself"}},
		"not quite FaceKi":           {map[string]string{"FACEKI_BASE_URL": "https://notfaceki.com"}, config.Needs{FaceKi: true, Simulate: true}, nil},
		"callbacks without a secret": {map[string]string{"KYCLINK_CALLBACK_HOSTS": "*"}, config.Needs{FaceKi: true, Simulate: true}, []string{"KYCLINK_CALLBACK_SECRET is missing"}},
		"test without hosts":         {nil, config.Needs{Callbacks: true}, []string{"KYCLINK_CALLBACK_HOSTS is missing"}},
		"test without secret":        {map[string]string{"KYCLINK_CALLBACK_HOSTS": "*"}, config.Needs{Callbacks: true}, []string{"KYCLINK_CALLBACK_SECRET is missing"}},
		"hosts in a producer":        {map[string]string{"KYCLINK_CALLBACK_HOSTS": "*"}, config.Needs{}, nil},
		"port of FaceKi":             {map[string]string{"FACEKI_BASE_URL": "https://x.example:65536"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_BASE_URL names port 65536; ports are from 1 to 65535"}},
		"port of the proxy":          {map[string]string{"KYCLINK_CALLBACK_PROXY": "http://x.example:99999"}, config.Needs{}, []string{"KYCLINK_CALLBACK_PROXY names port 99999; ports are"}},
		"port of Redis":              {map[string]string{"KYCLINK_REDIS_URL": "redis://user:66666@x.example:70000/0"}, config.Needs{}, []string{"KYCLINK_REDIS_URL names port 70000; ports are"}},
		"hold":                       {map[string]string{"KYCLINK_ON_UNKNOWN": "hold"}, config.Needs{FaceKi: true, Simulate: true}, nil},
		"neither":                    {map[string]string{"KYCLINK_ON_UNKNOWN": "Retry"}, config.Needs{FaceKi: true, Simulate: true}, []string{`KYCLINK_ON_UNKNOWN is "Retry"; use retry, which`}},
		"no concurrency":             {map[string]string{"KYCLINK_CONCURRENCY": "0"}, config.Needs{FaceKi: true, Simulate: true}, []string{`KYCLINK_CONCURRENCY is "0"; use auto, or a number from 1 to 1000`}},
		"too much concurrency":       {map[string]string{"KYCLINK_CONCURRENCY": "1001"}, config.Needs{FaceKi: true, Simulate: true}, []string{`KYCLINK_CONCURRENCY is "1001"; use auto, or a number from 1 to 1000`}},
		"no rate":                    {map[string]string{"FACEKI_RATE": "5"}, config.Needs{FaceKi: true, Simulate: true}, []string{`FACEKI_RATE is wrong: "5" is not a rate`}},
		"burst too small":            {map[string]string{"FACEKI_BURST": "1"}, config.Needs{FaceKi: true, Simulate: true}, []string{"FACEKI_BURST is 1; use a number from 2 to 10000"}},
		"mode and URL":               {map[string]string{"KYCLINK_REDIS_MODE": "ring", "KYCLINK_REDIS_URL": "h:6379"}, config.Needs{}, []string{`KYCLINK_REDIS_MODE is "ring"`, "KYCLINK_REDIS_URL cannot be read"}},
		"no backlog":                 {map[string]string{"KYCLINK_MAX_BACKLOG": "0"}, config.Needs{}, []string{`KYCLINK_MAX_BACKLOG is "0"; use a number from 1 to 1000000000, or unset it for no limit`}},
		"endless backlog":            {map[string]string{"KYCLINK_MAX_BACKLOG": "none"}, config.Needs{}, []string{`KYCLINK_MAX_BACKLOG is "none"; use a number from 1 to 1000000000, or unset it for no limit`}},
		"mode, and a URL that some mode reads": {map[string]string{"KYCLINK_REDIS_MODE": "ring", "KYCLINK_REDIS_URL": "redis://h:1?master_name=m"}, config.Needs{},
			[]string{`KYCLINK_REDIS_MODE is "ring"`}},
		"auto":                {map[string]string{"KYCLINK_CONCURRENCY": "auto"}, config.Needs{FaceKi: true, Simulate: true}, nil},
		"sentinel needs name": {map[string]string{"KYCLINK_REDIS_URL": "redis://h:1", "KYCLINK_REDIS_MODE": "sentinel"}, config.Needs{FaceKi: true, Simulate: true}, []string{"KYCLINK_REDIS_URL cannot be read in mode sentinel"}},
		"not used yet":        {map[string]string{"KYCLINK_MAX_BODY": "", "KYCLINK_LISTEN": "nonsense"}, config.Needs{FaceKi: true, Simulate: true}, nil},
	} {
		_, err := config.Load(environ(tt.set), tt.needs)
		got := problemsOf(t, err)
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: got %q, want %q", name, got[i], want)
			}
		}
	}
}

// One error lists everything that is wrong, and shows no secret.
func TestLoad_ListsAllProblemsAtOnce(t *testing.T) {
	_, err := config.Load(environ(map[string]string{
		"KYCLINK_ACCOUNT": "Shop 2", "KYCLINK_REDIS_URL": "redis://user:hunter2/x@h:6379/0", "KYCLINK_REDIS_MODE": "ring",
		"KYCLINK_REDIS_ALLOW_EVICTION": "yes", "FACEKI_CLIENT_ID": "", "FACEKI_CLIENT_SECRET": "hunter2",
		"FACEKI_BASE_URL": "http://user:hunter2@x.example", "FACEKI_AUTH": "put", "FACEKI_EXPIRY_TYPE": "float",
		"FACEKI_LINK_HOSTS": "https://a.example,b.example", "FACEKI_TIMEOUT": "15", "FACEKI_WORKFLOW_ID": "",
		"KYCLINK_EXPIRY_MINUTES": "0", "KYCLINK_MAX_ATTEMPTS": "100", "KYCLINK_CONCURRENCY": "many",
		"KYCLINK_ON_UNKNOWN": "ask", "KYCLINK_RETENTION": "0s", "KYCLINK_RESULTS_AGE": "-1h", "KYCLINK_RESULTS_CAP": "10", "FACEKI_RATE": "fast", "FACEKI_BURST": "1", "KYCLINK_LOG_LEVEL": "loud", "KYCLINK_LOG_FORMAT": "xml",
		"KYCLINK_CALLBACK_SECRET": "whsec_hunter2", "KYCLINK_CALLBACK_HOSTS": "https://a.example", "KYCLINK_CALLBACK_ALLOW_CIDRS": "10/8",
		"KYCLINK_CALLBACK_PROXY": "https://user:hunter2@proxy.example",
	}), config.Needs{FaceKi: true, Redis: true})
	if len(problemsOf(t, err)) != 26 {
		t.Errorf("got %d problems, want 26", len(problemsOf(t, err)))
	}
	got := err.Error() + "\n"
	if strings.Contains(got, "hunter2") {
		t.Errorf("the error contains a secret:\n%s", got)
	}
	golden := filepath.Join("testdata", "bad.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A producer needs no settings of FaceKi, and does not refuse incomplete or wrong ones.
func TestLoad_IgnoresFaceKiInProducers(t *testing.T) {
	shared := map[string]string{"KYCLINK_REDIS_URL": "redis://127.0.0.1:6379"}
	for _, forWorkers := range []map[string]string{
		{"FACEKI_BASE_URL": "https://x.example", "FACEKI_CLIENT_ID": "x"},
		{"FACEKI_TIMEOUT": "abc"},
		{"FACEKI_RATE": "fast", "FACEKI_BURST": "", "FACEKI_CLIENT_ID": ""},
		{"FACEKI_CLIENT_SECRET_FILE": filepath.Join(t.TempDir(), "not")},
		{"KYCLINK_CONCURRENCY": "many", "KYCLINK_MAX_ATTEMPTS": "x", "KYCLINK_EXPIRY_MINUTES": "", "KYCLINK_ON_UNKNOWN": "hold"},
	} {
		set := maps.Clone(shared)
		maps.Copy(set, forWorkers)
		c, err := config.Load(environ(set), config.Needs{Redis: true})
		if err != nil || c.Redis.URL == "" || c.Account != "default" {
			t.Errorf("%v in a producer: got %+v, %v; want no error", forWorkers, c, err)
		}
		if _, err := config.Load(environ(set), config.Needs{Redis: true, FaceKi: true}); err == nil {
			t.Errorf("%v in a worker: got no error", forWorkers)
		}
	}
}

// A call must be answered, and its outcome recorded, before the gate takes its worker for dead.
func TestMaxTimeout_IsShorterThanTheGateWaits(t *testing.T) {
	const recording = 10 * time.Second
	if config.MaxTimeout+recording > admission.AnswerWithin {
		t.Errorf("a call may take %v, but the gate gives up on it after %v", config.MaxTimeout, admission.AnswerWithin)
	}
}
