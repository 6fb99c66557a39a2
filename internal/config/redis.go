package config

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/hostname"
)

// Mode is the kind of a Redis deployment.
type Mode string

// The modes.
const (
	Single   Mode = "single"
	Sentinel Mode = "sentinel"
	Cluster  Mode = "cluster"
)

const (
	// connectWithin limits the duration of Connect, which promises 5 s.
	connectWithin = 4 * time.Second
	// dialTries is the default of dialer_retries. go-redis also retries the command, so five
	// tries for each (its own default) would exceed every deadline.
	dialTries = 1
	// poolSize is the default of pool_size. A handler uses a connection only while a script
	// runs, so few connections serve many handlers.
	poolSize = 64
	// blockingPool is the pool size for commands that wait, for each account. A worker has up
	// to six: one for each of its four queues, one for events, and one for the intake stream.
	blockingPool = 8
	// subscriptions is how many other connections a worker has for each account: asynq
	// subscribes to a channel for each of the four queues.
	subscriptions = 4
	// minPool is the smallest pool in which commands do not wait long for a connection.
	minPool = 8
	// reloadEvery is how often a cluster's client reads the slot map. While a node is down,
	// this is the only way to find its replacement. go-redis' default is a minute.
	reloadEvery = time.Second
)

// Redis configures the connection to Redis. Its zero value means an embedded
// Redis, which this package does not run.
type Redis struct {
	// URL may contain a password, and is never shown.
	URL faceki.Secret `env:"KYCLINK_REDIS_URL"`
	// Mode decides how go-redis reads the URL: ParseURL, ParseFailoverURL or
	// ParseClusterURL.
	Mode Mode `env:"KYCLINK_REDIS_MODE, default=single"`
	// AllowEviction lets Connect accept a Redis that may evict keys.
	AllowEviction bool `env:"KYCLINK_REDIS_ALLOW_EVICTION"`
	// AllowSkipVerify permits skip_verify in the URL: the certificate of Redis is not
	// checked then.
	AllowSkipVerify bool `env:"KYCLINK_REDIS_ALLOW_SKIP_VERIFY"`
	// CA is the path of a PEM file with the certificates that sign those of Redis; if empty,
	// the system's are trusted.
	CA string `env:"KYCLINK_REDIS_CA"`
	// Cert and Key are the paths of PEM files with the client certificate, if Redis requires
	// one, and with its key.
	Cert string `env:"KYCLINK_REDIS_CERT"`
	Key  string `env:"KYCLINK_REDIS_KEY"`
}

// Validate returns all problems, each of which names its variable.
func (r Redis) Validate() []error {
	var problems []error
	modes := []Mode{Single, Sentinel, Cluster}
	if slices.Contains(modes, r.Mode) {
		modes = []Mode{r.Mode}
	} else {
		problems = append(problems, fmt.Errorf("KYCLINK_REDIS_MODE is %q; use single, sentinel or cluster", r.Mode))
	}
	problems = append(problems, r.pairProblems()...)
	if r.URL == "" {
		return problems
	}
	// With an invalid mode, the URL is valid if it is for one of the modes.
	var unread error
	for _, mode := range modes {
		s, err := Redis{URL: r.URL, Mode: mode}.parse()
		if err == nil {
			return slices.Concat(problems, wrongPorts(s.addr), s.problems(r.AllowSkipVerify), r.secure(s.tls))
		}
		unread = cmp.Or(unread, err)
	}
	return append(problems, unread)
}

// wrongPorts returns the problem of the first address with an invalid port. The
// addresses contain no password.
func wrongPorts(addresses string) []error {
	for address := range strings.SplitSeq(addresses, ", ") {
		if problem := hostname.WrongPort(&url.URL{Host: address}); problem != "" {
			return []error{fmt.Errorf("KYCLINK_REDIS_URL %s", problem)}
		}
	}
	return nil
}

// server is the Redis that the URL names. It has no connection.
type server struct {
	// client makes a client with at most limit connections.
	client func(limit int) redis.UniversalClient
	addr   string
	mode   Mode
	master string // the master's name, with sentinels
	pool   int    // limit on connections
	tls    *tls.Config
	user   string // of Redis, not of the sentinels; "" for the default user
}

// connect makes a client with at most limit connections, whose errors name the user.
func (s server) connect(limit int) redis.UniversalClient {
	rdb := s.client(limit)
	rdb.AddHook(permissions{s.user})
	return rdb
}

// parse parses the URL. Options that read from replicas are refused, because a
// replica may be behind. The error shows no part of the URL or of the parser's error: if a
// password contains an unescaped character, any part may belong to the password.
func (r Redis) parse() (server, error) {
	wrong := func(example string) (server, error) {
		return server{}, fmt.Errorf("KYCLINK_REDIS_URL cannot be read in mode %s; use a URL such as %s "+
			"(rediss:// for TLS; characters such as / @ # in a password are written %%2F %%40 %%23)", r.Mode, example)
	}
	switch r.Mode {
	case Sentinel:
		o, err := redis.ParseFailoverURL(string(r.URL))
		if err != nil || o.MasterName == "" || o.ReplicaOnly || o.RouteByLatency || o.RouteRandomly {
			return wrong("redis://host:26379/0?master_name=NAME&addr=host2:26379&username=USER&password=PASSWORD")
		}
		o.ContextTimeoutEnabled, o.PoolSize, o.DialerRetries = true, orDefault(o.PoolSize, poolSize), orDefault(o.DialerRetries, dialTries)
		o.DisableIdentity = true // see Connect
		return server{func(limit int) redis.UniversalClient { o.PoolSize = limit; return redis.NewFailoverClient(o) }, strings.Join(o.SentinelAddrs, ", "), Sentinel, o.MasterName, poolOf(o.PoolSize, o.MaxActiveConns), o.TLSConfig, o.Username}, nil
	case Cluster:
		o, err := redis.ParseClusterURL(string(r.URL))
		if err != nil || o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return wrong("redis://user:password@host:6379?addr=host2:6379")
		}
		o.ClusterStateReloadInterval = reloadEvery
		o.ContextTimeoutEnabled, o.PoolSize, o.DialerRetries = true, orDefault(o.PoolSize, poolSize), orDefault(o.DialerRetries, dialTries)
		o.DisableIdentity = true // see Connect
		return server{func(limit int) redis.UniversalClient { o.PoolSize = limit; return redis.NewClusterClient(o) }, strings.Join(o.Addrs, ", "), Cluster, "", poolOf(o.PoolSize, o.MaxActiveConns), o.TLSConfig, o.Username}, nil
	default:
		o, err := redis.ParseURL(string(r.URL))
		if err != nil {
			return wrong("redis://user:password@host:6379/0")
		}
		o.ContextTimeoutEnabled, o.PoolSize, o.DialerRetries = true, orDefault(o.PoolSize, poolSize), orDefault(o.DialerRetries, dialTries)
		o.DisableIdentity = true // see Connect
		return server{func(limit int) redis.UniversalClient { o.PoolSize = limit; return redis.NewClient(o) }, o.Addr, Single, "", poolOf(o.PoolSize, o.MaxActiveConns), o.TLSConfig, o.Username}, nil
	}
}

// poolOf returns the limit on connections for a pool_size and a max_active_conns.
func poolOf(size, maxActive int) int {
	if maxActive > 0 {
		return min(size, maxActive)
	}
	return size
}

// problems returns what is wrong with a URL that can be parsed.
func (s server) problems(allowSkipVerify bool) []error {
	var problems []error
	if s.pool < minPool {
		problems = append(problems, fmt.Errorf("KYCLINK_REDIS_URL allows %d connections (pool_size, max_active_conns); allow at least %d, or omit them for %d",
			s.pool, minPool, poolSize))
	}
	if s.tls != nil && s.tls.InsecureSkipVerify && !allowSkipVerify {
		problems = append(problems, errors.New("KYCLINK_REDIS_URL contains skip_verify: anyone in between could impersonate Redis; "+
			"name the CA's certificate in KYCLINK_REDIS_CA, or set KYCLINK_REDIS_ALLOW_SKIP_VERIFY=true"))
	}
	return problems
}

// Unencrypted returns the names of the remote hosts to which passwords, links and metadata
// are sent in plain text; "" if there are none.
func (r Redis) Unencrypted() string {
	s, err := r.parse()
	if r.URL == "" || err != nil || s.tls != nil {
		return ""
	}
	var hosts []string
	for addr := range strings.SplitSeq(s.addr, ", ") {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ", ")
}

func orDefault(given, byDefault int) int {
	if given > 0 {
		return given
	}
	return byDefault
}

// Connect checks that Redis can be reached and is suitable, and returns a client, which the
// caller closes. It takes less than 5 s. An [*Error] means that a person must change
// something; any other error means that Redis could not be reached. If Redis may evict keys
// and that is permitted, Connect logs a warning.
//
// Connections do not tell Redis the name of the library (CLIENT SETINFO): Redis before 7.2
// does not know that command, and later versions refuse it to users with only the documented
// permissions, and log each refusal.
func Connect(ctx context.Context, r Redis, log *zap.Logger) (redis.UniversalClient, error) {
	s, err := r.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	rdb := s.connect(s.pool)
	if err := s.check(ctx, rdb, r.AllowEviction, log); err != nil {
		_ = rdb.Close()
		return nil, err
	}
	return rdb, nil
}

// Blocking returns a client for commands that wait, which would occupy the connections of
// the client of [Connect], for a process that works for so many accounts. It connects on first
// use.
func Blocking(r Redis, accounts int) (redis.UniversalClient, error) {
	s, err := r.open()
	if err != nil {
		return nil, err
	}
	return s.connect(accounts * blockingPool), nil
}

// Connections returns the limit on the connections to each server of a process that works for
// so many accounts.
func (r Redis) Connections(accounts int) int {
	s, err := r.parse()
	if err != nil {
		return 0
	}
	return s.pool + accounts*(blockingPool+subscriptions)
}

func (s server) check(ctx context.Context, rdb redis.UniversalClient, allowEviction bool, log *zap.Logger) error {
	if err := rdb.Ping(ctx).Err(); err != nil {
		return s.unreachable(ctx, err)
	}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return checkCluster(ctx, cluster, allowEviction, log)
	}
	return s.checkInfo(ctx, rdb, allowEviction, log)
}

// checkCluster checks all masters, and the replicas that can be reached: a replica may
// become a master.
func checkCluster(ctx context.Context, cluster *redis.ClusterClient, allowEviction bool, log *zap.Logger) error {
	check := func(ctx context.Context, node *redis.Client) error {
		return server{addr: node.Options().Addr, mode: Cluster}.checkInfo(ctx, node, allowEviction, log)
	}
	if err := cluster.ForEachMaster(ctx, check); err != nil {
		return err
	}
	return cluster.ForEachSlave(ctx, func(ctx context.Context, node *redis.Client) error {
		err := check(ctx, node)
		if _, unfit := errors.AsType[*Error](err); unfit {
			return err
		}
		return nil
	})
}

// checkInfo checks one server by its INFO, because many providers forbid CONFIG GET.
func (s server) checkInfo(ctx context.Context, rdb redis.Cmdable, allowEviction bool, log *zap.Logger) error {
	text, err := rdb.Info(ctx).Result()
	if err != nil && !redis.IsPermissionError(err) {
		return s.unreachable(ctx, err)
	}
	info := parseInfo(text)
	if means := s.roleProblem(info); means != "" {
		return s.wrong(means) // a person must name another server, which is checked then
	}
	var problems []string
	if version := info["redis_version"]; tooOld(version) {
		problems = append(problems, fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s is version %s; use 6.2 or newer, "+
			"because the results stream is trimmed by age (XTRIM MINID)", s.addr, version))
	}
	switch policy := info["maxmemory_policy"]; {
	case policy == "noeviction":
	case allowEviction:
		log.Warn("Redis may evict requests, links and queued tasks (KYCLINK_REDIS_ALLOW_EVICTION)",
			zap.String("redis", s.addr), zap.String("maxmemory_policy", policy))
	case policy == "":
		problems = append(problems, fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s does not show its maxmemory-policy; allow the command INFO, "+
			"or check that it is noeviction and set KYCLINK_REDIS_ALLOW_EVICTION=true", s.addr))
	default:
		problems = append(problems, fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s has maxmemory-policy %s: when its memory is full, it "+
			"evicts requests, links and queued tasks, which are then lost or paid for twice; set it to noeviction "+
			"(or KYCLINK_REDIS_ALLOW_EVICTION=true to start anyway)", s.addr, policy))
	}
	if len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok {
			info[key] = value
		}
	}
	return info
}

// tooOld reports whether a version is older than 6.2. An unknown version is not.
func tooOld(version string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < 6 || major == 6 && minor < 2
}
