package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/logging"
)

// fileSuffix is the end of the names of variables that name a file.
const fileSuffix = "_FILE"

// Setting describes one environment variable for the reference in docs/settings.md.
type Setting struct {
	Name    string
	Group   string // the heading that it stands under
	Default string // "" if it has none
	Text    string // Markdown: what it does, its unit and its limits
	// File reports whether the variable with the suffix _FILE may name a file that contains
	// the value. It is set if the value is secret, or can contain a password.
	File bool
}

// Settings returns every environment variable that kyclink reads, by group.
func Settings() []Setting {
	defaults := map[string]string{}
	for _, c := range []any{shared{}, directory{}, Work{}, API{}, Ops{}, Redis{}, faceki.Config{}, callback.Config{}, logging.Config{}} {
		readDefaults(reflect.TypeOf(c), defaults)
	}
	var all []Setting
	for _, g := range settings {
		for _, s := range g.settings {
			s.Group = g.name
			if s.Default == "" {
				s.Default = defaults[s.Name]
			}
			all = append(all, s)
		}
	}
	return all
}

// readDefaults adds the variables in the env tags of a struct, with their defaults.
func readDefaults(t reflect.Type, to map[string]string) {
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("env"), ",")
		if name == "" {
			continue
		}
		_, value, _ := strings.Cut(options, "default=")
		to[name] = value
	}
}

type group struct {
	name      string
	ofAccount bool // they may be in the file of an account, see [LoadAccounts]
	settings  []Setting
}

// settings is the table of all environment variables. A Default overrides that of
// the env tag.
var settings = []group{
	{"Redis", false, []Setting{
		{Name: "KYCLINK_REDIS_URL", File: true, Text: "The Redis that all processes share, such as `redis://user:password@host:6379/0`; " +
			"`rediss://` for TLS. Required, except in `run`, which uses an embedded Redis without it, and in `dev`, which always does."},
		{Name: "KYCLINK_REDIS_MODE", Text: "`single`; `sentinel`, with `redis://host:26379/0?master_name=NAME&addr=host2:26379` " +
			"(a user before the `@` is the sentinels' own, `username=` and `password=` are Redis'); or `cluster`, with `redis://host:6379?addr=host2:6379`."},
		{Name: "KYCLINK_REDIS_ALLOW_EVICTION", Default: "false", Text: "Start although Redis' `maxmemory-policy` allows it to evict keys. Requests can be lost."},
		{Name: "KYCLINK_REDIS_ALLOW_SKIP_VERIFY", Default: "false", Text: "Permit `skip_verify` in the URL: the certificate of Redis is not checked."},
		{Name: "KYCLINK_REDIS_CA", Text: "PEM file with the certificate of the CA that signs those of Redis, for a private CA; it replaces the system's. For a `rediss://` URL. " +
			"The certificate of every server must be valid for the URL's host. It is read when a process starts, like the next two."},
		{Name: "KYCLINK_REDIS_CERT", Text: "PEM file with a client certificate, for a Redis that requires one (`tls-auth-clients`)."},
		{Name: "KYCLINK_REDIS_KEY", Text: "PEM file with the key of the client certificate. Set both or neither."},
		{Name: "KYCLINK_ACCOUNT", Text: "Namespace of one FaceKi account in Redis: 1 to 32 of `a-z`, `0-9` and `-`."},
		{Name: "KYCLINK_ACCOUNTS", Text: "Directory with a file `ACCOUNT.env` for each account that `worker` serves, instead of `KYCLINK_ACCOUNT`. " +
			"See [Several accounts](operations.md#several-accounts)."},
	}},
	{"FaceKi", true, []Setting{
		{Name: "FACEKI_CLIENT_ID", File: true, Text: "Client id of the account. Required in `worker` and `run`, except with `--simulate`."},
		{Name: "FACEKI_CLIENT_SECRET", File: true, Text: "Client secret of the account. Required like the client id."},
		{Name: "FACEKI_BASE_URL", Text: "Address of FaceKi's API; with `--simulate`, of a simulator. Plain `http` is permitted for loopback addresses only."},
		{Name: "FACEKI_RATE", Text: "Calls that FaceKi allows: `N/s`, `N/m` or `N/h`. A worker sets it for the account when it starts; the last start wins. " +
			"`kyclink account rate` overrides it. With a simulator in the process the default is `200/s`."},
		{Name: "FACEKI_BURST", Text: "Calls that may be sent at once after a pause, 2 to 10000."},
		{Name: "FACEKI_TIMEOUT", Text: "Limit of one call, at most `1m`."},
		{Name: "FACEKI_AUTH", Text: "`post`, or `get` for FaceKi's older token call, which has the secret in its URL."},
		{Name: "FACEKI_EXPIRY_TYPE", Text: "`number` or `string`: the JSON type of the expiry time in a call."},
		{Name: "FACEKI_WORKFLOW_ID", Text: "Workflow of requests that name none."},
		{Name: "FACEKI_LINK_HOSTS", Text: "Hosts that links may be on, separated by commas. A link on another host is kept until its host is added and `kyclink held retry` is run."},
	}},
	{"Requests", true, []Setting{
		{Name: "KYCLINK_EXPIRY_MINUTES", Text: "Validity of links whose requests give none, in minutes."},
		{Name: "KYCLINK_ON_UNKNOWN", Text: "What follows a call that may have created a link: `retry` calls again, and may create a second link; " +
			"`hold` leaves the decision to an operator, also when the calling process died."},
		{Name: "KYCLINK_MAX_ATTEMPTS", Text: "Charged attempts after which a request fails, 1 to 99. See [Whose fault is it?](operations.md#whose-fault-is-it)"},
		{Name: "KYCLINK_REDIRECT_HOSTS", Default: "any", Text: "Hosts that a `redirect_url` may lead to, separated by commas, in requests from any source. `keys create --redirect-host` restricts one API key further."},
		{Name: "KYCLINK_MAX_BACKLOG", Default: "no limit", Text: "Limit on the waiting and queued requests of a lane. Beyond it a request is refused with `backlog_full`; an import and the intake stream wait. " +
			"Bulk requests never use up the interactive lane's limit. Set it to the same value in all processes."},
		{Name: "KYCLINK_CONCURRENCY", Text: "Calls in flight per lane and process, 1 to 1000. `auto` follows the rate and the usual latency, up to what calls of 4 s need (at most 256)."},
	}},
	{"Retention", true, []Setting{
		{Name: "KYCLINK_RETENTION", Text: "How long ended requests are kept. The workers erase them within an hour after that; only counters stay."},
		{Name: "KYCLINK_RESULTS_AGE", Text: "How long events stay in the results stream. Events that a live consumer group has not acknowledged stay longer."},
		{Name: "KYCLINK_RESULTS_CAP", Text: "Limit on the events in the results stream, at least 1000. Beyond it the oldest are trimmed in any case."},
	}},
	{"Callbacks", true, []Setting{
		{Name: "KYCLINK_CALLBACK_HOSTS", Text: "Hosts that callbacks may be sent to, separated by commas; `*` permits any. If it is not set, callbacks are off and a `callback_url` is refused. " +
			"Producers and workers need it."},
		{Name: "KYCLINK_CALLBACK_SECRET", File: true, Text: "Signs callbacks, in workers: `whsec_` and the base64 of 24 to 64 random bytes (`kyclink callbacks secret` generates one). Several, the newest first, are separated by spaces."},
		{Name: "KYCLINK_CALLBACK_ALLOW_CIDRS", Text: "Private or loopback ranges that callbacks may be sent to, such as `127.0.0.0/8`, also with plain `http`."},
		{Name: "KYCLINK_CALLBACK_PROXY", File: true, Text: "HTTP proxy for callbacks, such as `http://proxy.example:3128`. The proxy resolves names and must refuse private addresses."},
	}},
	{"HTTP servers", false, []Setting{
		{Name: "KYCLINK_LISTEN", Text: "Address of the HTTP API of `serve` and `dev`; `:8080` is every address of the machine."},
		{Name: "KYCLINK_OPS_LISTEN", Text: "Address of health and metrics of `worker`, `serve` and `dev`. `health` asks there. If the default is in use, the process starts without them."},
		{Name: "KYCLINK_TLS_CERT", Text: "PEM file with the certificate of `serve`. It is read again when it changes. Without it, put a proxy that terminates TLS in front."},
		{Name: "KYCLINK_TLS_KEY", Text: "PEM file with the certificate's key. Set both or neither."},
		{Name: "KYCLINK_MAX_BODY", Text: "Limit on a batch that is sent over HTTP; a number with `KiB`, `MiB` or `GiB`."},
	}},
	{"Logs", false, []Setting{
		{Name: "KYCLINK_LOG_LEVEL", Default: "info (`warn` in `run`, `error` in `dev`)", Text: "`debug`, `info`, `warn` or `error`. Logs go to standard error."},
		{Name: "KYCLINK_LOG_FORMAT", Default: "json (`console` on a terminal)", Text: "`json` or `console`."},
	}},
}

// variables returns the names of all environment variables, including those that name a
// file.
func variables() []string {
	var names []string
	for _, g := range settings {
		for _, s := range g.settings {
			names = append(names, s.Name)
			if s.File {
				names = append(names, s.Name+fileSuffix)
			}
		}
	}
	return names
}

// mayBeFile reports whether the value of a variable may come from a file.
func mayBeFile(variable string) bool { return slices.Contains(variables(), variable+fileSuffix) }
