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

// Modes of Redis, see [Redis].
const (
	Single   = "single"
	Sentinel = "sentinel"
	Cluster  = "cluster"
)

const (
	// connectWithin is how long Connect takes at most; 5 s are promised.
	connectWithin = 4 * time.Second
	// dialTries is how often a connection is tried before the command that wants
	// it fails, where the URL gives no dialer_retries. The command itself is
	// retried, so that go-redis' five would multiply and outlast every deadline.
	dialTries = 1
	// poolSize is for connections to a server, where the URL gives no pool_size.
	// A slot holds one for the length of a script, so that few serve many slots.
	poolSize = 64
	// blockingPool is for reads that wait, of which a process has one or two.
	blockingPool = 4
	// leastPool is the smallest pool in which nobody waits for long.
	leastPool = 8
	// reloadEvery is how often a cluster's client asks which node has which slot.
	// While a node is gone it learns of the one in its place in no other way, and
	// go-redis' own interval is a minute.
	reloadEvery = time.Second
)

// Redis says where Redis is. Its zero value is an embedded one, which is no
// business of this package.
type Redis struct {
	// URL may hold a password, and is not shown.
	URL faceki.Secret `env:"KYCLINK_REDIS_URL"`
	// Mode decides how go-redis reads the URL: ParseURL, ParseFailoverURL or
	// ParseClusterURL.
	Mode string `env:"KYCLINK_REDIS_MODE, default=single"`
	// AllowEviction lets Connect take a Redis that may throw keys away.
	AllowEviction bool `env:"KYCLINK_REDIS_ALLOW_EVICTION"`
	// AllowSkipVerify lets the URL say skip_verify: then anybody in between can
	// pretend to be Redis.
	AllowSkipVerify bool `env:"KYCLINK_REDIS_ALLOW_SKIP_VERIFY"`
}

// Validate gives all problems at once, each with its variable's name.
func (r Redis) Validate() []error {
	var problems []error
	modes := []string{Single, Sentinel, Cluster}
	if slices.Contains(modes, r.Mode) {
		modes = []string{r.Mode}
	} else {
		problems = append(problems, fmt.Errorf("KYCLINK_REDIS_MODE is %q; use single, sentinel or cluster", r.Mode))
	}
	if r.URL == "" {
		return problems
	}
	// Whoever got the mode wrong meant one of them.
	var unread error
	for _, mode := range modes {
		s, err := Redis{URL: r.URL, Mode: mode}.open()
		if err == nil {
			return append(append(problems, wrongPorts(s.addr)...), s.problems(r.AllowSkipVerify)...)
		}
		unread = cmp.Or(unread, err)
	}
	return append(problems, unread)
}

// wrongPorts looks at the addresses of a [server], which hold no password.
func wrongPorts(addresses string) []error {
	for address := range strings.SplitSeq(addresses, ", ") {
		if problem := hostname.WrongPort(&url.URL{Host: address}); problem != "" {
			return []error{fmt.Errorf("KYCLINK_REDIS_URL %s", problem)}
		}
	}
	return nil
}

// server is a client that has not connected yet, and where it will connect to.
type server struct {
	// client gives one that has this many connections at most.
	client func(pool int) redis.UniversalClient
	addr   string
	mode   string
	master string // its name, with sentinels
	pool   int    // connections at most
	tls    *tls.Config
}

// open reads the URL. Everything is read where it is written: what a replica says
// may be old. The error shows nothing of it, and nothing of what the
// parsers say: where a password holds an unescaped character, any part may be
// the password.
func (r Redis) open() (server, error) {
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
		return server{func(pool int) redis.UniversalClient { o.PoolSize = pool; return redis.NewFailoverClient(o) }, strings.Join(o.SentinelAddrs, ", "), Sentinel, o.MasterName, poolOf(o.PoolSize, o.MaxActiveConns), o.TLSConfig}, nil
	case Cluster:
		o, err := redis.ParseClusterURL(string(r.URL))
		if err != nil || o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return wrong("redis://user:password@host:6379?addr=host2:6379")
		}
		o.ClusterStateReloadInterval = reloadEvery
		o.ContextTimeoutEnabled, o.PoolSize, o.DialerRetries = true, orDefault(o.PoolSize, poolSize), orDefault(o.DialerRetries, dialTries)
		return server{func(pool int) redis.UniversalClient { o.PoolSize = pool; return redis.NewClusterClient(o) }, strings.Join(o.Addrs, ", "), Cluster, "", poolOf(o.PoolSize, o.MaxActiveConns), o.TLSConfig}, nil
	default:
		o, err := redis.ParseURL(string(r.URL))
		if err != nil {
			return wrong("redis://user:password@host:6379/0")
		}
		o.ContextTimeoutEnabled, o.PoolSize, o.DialerRetries = true, orDefault(o.PoolSize, poolSize), orDefault(o.DialerRetries, dialTries)
		return server{func(pool int) redis.UniversalClient { o.PoolSize = pool; return redis.NewClient(o) }, o.Addr, Single, "", poolOf(o.PoolSize, o.MaxActiveConns), o.TLSConfig}, nil
	}
}

// poolOf is how many connections there may be at most.
func poolOf(size, most int) int {
	if most > 0 {
		return min(size, most)
	}
	return size
}

// problems are what a URL says that can be read and must not be.
func (s server) problems(allowSkipVerify bool) []error {
	var problems []error
	if s.pool < leastPool {
		problems = append(problems, fmt.Errorf("KYCLINK_REDIS_URL allows %d connections (pool_size, max_active_conns); allow at least %d, or leave it out for %d",
			s.pool, leastPool, poolSize))
	}
	if s.tls != nil && s.tls.InsecureSkipVerify && !allowSkipVerify {
		problems = append(problems, errors.New("KYCLINK_REDIS_URL says skip_verify: anybody in between could pretend to be Redis; "+
			"add the CA's certificate to the system's (SSL_CERT_FILE), or set KYCLINK_REDIS_ALLOW_SKIP_VERIFY=true"))
	}
	return problems
}

// Unencrypted names the hosts to which passwords, links and metadata go in plain
// text, beyond this machine; "" where there are none.
func (r Redis) Unencrypted() string {
	s, err := r.open()
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

// Connect gives a client of the Redis that was set, which its caller closes,
// after a look at whether Redis is there and fit for use. It takes less than
// 5 s. An [*Error] says that somebody has to change something; any other error
// that Redis could not be reached. That eviction was allowed is logged.
func Connect(ctx context.Context, r Redis, log *zap.Logger) (redis.UniversalClient, error) {
	s, err := r.open()
	if err != nil {
		return nil, &Error{Problems: []string{err.Error()}}
	}
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	rdb := s.client(s.pool)
	if err := s.check(ctx, rdb, r.AllowEviction, log); err != nil {
		_ = rdb.Close()
		return nil, err
	}
	return rdb, nil
}

// Blocking gives a client for reads that wait for something to come, beside that of
// [Connect], whose connections they would hold. It has not connected yet.
func Blocking(r Redis) (redis.UniversalClient, error) {
	s, err := r.open()
	if err != nil {
		return nil, &Error{Problems: []string{err.Error()}}
	}
	return s.client(blockingPool), nil
}

// Connections is how many the clients of a process have at most, to each server.
func (r Redis) Connections() int {
	s, err := r.open()
	if err != nil {
		return 0
	}
	return s.pool + blockingPool
}

func (s server) check(ctx context.Context, rdb redis.UniversalClient, allowEviction bool, log *zap.Logger) error {
	if err := rdb.Ping(ctx).Err(); err != nil {
		return s.unreachable(ctx, err)
	}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return checkCluster(ctx, cluster, allowEviction, log)
	}
	return s.fit(ctx, rdb, allowEviction, log)
}

// checkCluster looks at replicas as well, which may have to take a master's
// place; one that is away is no reason not to start.
func checkCluster(ctx context.Context, cluster *redis.ClusterClient, allowEviction bool, log *zap.Logger) error {
	fit := func(ctx context.Context, node *redis.Client) error {
		return server{addr: node.Options().Addr, mode: Cluster}.fit(ctx, node, allowEviction, log)
	}
	if err := cluster.ForEachMaster(ctx, fit); err != nil {
		return err
	}
	return cluster.ForEachSlave(ctx, func(ctx context.Context, node *redis.Client) error {
		err := fit(ctx, node)
		if _, unfit := errors.AsType[*Error](err); unfit {
			return err
		}
		return nil
	})
}

// fit looks at one server's INFO, as CONFIG GET is forbidden by many providers.
func (s server) fit(ctx context.Context, rdb redis.Cmdable, allowEviction bool, log *zap.Logger) error {
	text, err := rdb.Info(ctx).Result()
	if err != nil && !redis.IsPermissionError(err) {
		return s.unreachable(ctx, err)
	}
	info := parseInfo(text)
	if means := s.roleProblem(info); means != "" {
		return s.wrong(means) // the rest is another server's matter
	}
	var problems []string
	if version := info["redis_version"]; tooOld(version) {
		problems = append(problems, fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s is version %s; use 6.2 or newer, "+
			"as the results stream is trimmed by age (XTRIM MINID)", s.addr, version))
	}
	switch policy := info["maxmemory_policy"]; {
	case policy == "noeviction":
	case allowEviction:
		log.Warn("Redis may throw away requests, links and queued tasks when its memory is full (KYCLINK_REDIS_ALLOW_EVICTION)",
			zap.String("redis", s.addr), zap.String("maxmemory_policy", policy))
	case policy == "":
		problems = append(problems, fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s does not tell its maxmemory-policy; allow the command INFO, "+
			"or see yourself that it is noeviction and set KYCLINK_REDIS_ALLOW_EVICTION=true", s.addr))
	default:
		problems = append(problems, fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s has maxmemory-policy %s: with its memory full it would "+
			"throw away requests, links and queued tasks, which would be lost or paid for twice; set it to noeviction "+
			"(or KYCLINK_REDIS_ALLOW_EVICTION=true to run all the same)", s.addr, policy))
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

// tooOld goes by what Redis says; a server that says nothing gets the benefit
// of the doubt.
func tooOld(version string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < 6 || major == 6 && minor < 2
}
