package config_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/stall"
)

func connect(t *testing.T, r config.Redis, log *zap.Logger) (redis.UniversalClient, error) {
	t.Helper()
	if r.Mode == "" {
		r.Mode = config.Single
	}
	rdb, err := config.Connect(t.Context(), r, log)
	if rdb != nil {
		t.Cleanup(func() { _ = rdb.Close() })
	}
	return rdb, err
}

func TestConnect_ReturnsAWorkingClient(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	rdb, err := connect(t, config.Redis{URL: faceki.Secret(srv.URL)}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
}

// What each connection sends first is known to all versions of Redis, and permitted to users
// with the documented permissions.
func TestConnect_SendsNothingThatRedisRefuses(t *testing.T) {
	t.Parallel()
	rdb, err := connect(t, config.Redis{URL: faceki.Secret(redistest.Start(t).URL)}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	client, _ := rdb.(*redis.Client)
	if err := rdb.ConfigResetStat(t.Context()).Err(); err != nil { // the first one asks once for notifications of maintenance
		t.Fatal(err)
	}
	for range 3 {
		conn := client.Conn() // keeps a connection
		defer func() { _ = conn.Close() }()
		if err := conn.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if stats, err := rdb.Info(t.Context(), "errorstats").Result(); err != nil || strings.Contains(stats, "errorstat_") {
		t.Errorf("Redis has answered with errors: %s, %v", stats, err)
	}
}

// A node that is down is ignored if another one has replaced it.
func TestConnect_ChecksEveryNodeOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	r := config.Redis{URL: faceki.Secret(cluster.URL), Mode: config.Cluster}
	rdb, err := connect(t, r, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	nodes, ok := rdb.(*redis.ClusterClient)
	if !ok {
		t.Fatalf("got a client of type %T, want a ClusterClient", rdb)
	}
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	setPolicy := func(each func(context.Context, func(context.Context, *redis.Client) error) error, policy string) {
		t.Helper()
		if err := each(t.Context(), func(ctx context.Context, node *redis.Client) error {
			return node.ConfigSet(ctx, "maxmemory-policy", policy).Err()
		}); err != nil {
			t.Fatal(err)
		}
	}
	for name, each := range map[string]func(context.Context, func(context.Context, *redis.Client) error) error{
		"masters": nodes.ForEachMaster, "replicas": nodes.ForEachSlave,
	} {
		setPolicy(each, "allkeys-lru")
		if _, err := connect(t, r, zap.NewNop()); len(problemsOf(t, err)) != 1 {
			t.Errorf("%s that evict: got %v, want one problem", name, err)
		}
		setPolicy(each, "noeviction")
	}

	// The existing client finds the new master, and a new client connects although one
	// node is down.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := cluster.Failover(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, "the client finds the new master", func() bool { return rdb.Set(ctx, "k", "v", 0).Err() == nil })
	if _, err := connect(t, r, zap.NewNop()); err != nil {
		t.Errorf("with a node that is down: %v", err)
	}
}

func TestConnect_ChecksTheMasterBehindSentinels(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	r := config.Redis{URL: faceki.Secret(sentinel.URL), Mode: config.Sentinel}
	rdb, err := connect(t, r, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, r, zap.NewNop()); len(problemsOf(t, err)) != 1 {
		t.Errorf("a master that evicts: got %v, want one problem", err)
	}
}

// A replica may be behind.
func TestRedis_RefusesReadingFromReplicas(t *testing.T) {
	for _, r := range []config.Redis{
		{Mode: config.Sentinel, URL: "redis://h:26379?master_name=m&replica_only=true"},
		{Mode: config.Sentinel, URL: "redis://h:26379?master_name=m&route_randomly=true"},
		{Mode: config.Sentinel, URL: "redis://h:26379?master_name=m&route_by_latency=true"},
		{Mode: config.Cluster, URL: "redis://h:6379?read_only=true"},
		{Mode: config.Cluster, URL: "redis://h:6379?route_randomly=true"},
		{Mode: config.Cluster, URL: "redis://h:6379?route_by_latency=true"},
	} {
		if problems := r.Validate(); len(problems) != 1 || !strings.Contains(problems[0].Error(), "KYCLINK_REDIS_URL") {
			t.Errorf("%s: got problems %v, want one of KYCLINK_REDIS_URL", string(r.URL), problems)
		}
	}
}

func TestConnect_RefusesEvictionUnlessAllowed(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--maxmemory-policy", "volatile-ttl")
	r := config.Redis{URL: faceki.Secret(srv.URL)}
	_, err := connect(t, r, zap.NewNop())
	problems := problemsOf(t, err)
	if len(problems) != 1 {
		t.Fatalf("got error %v, want one problem", err)
	}
	for _, part := range []string{srv.Addr, "maxmemory-policy volatile-ttl", "set it to noeviction", "KYCLINK_REDIS_ALLOW_EVICTION=true"} {
		if !strings.Contains(problems[0], part) {
			t.Errorf("%q does not say %q", problems[0], part)
		}
	}

	core, logs := observer.New(zapcore.DebugLevel)
	r.AllowEviction = true
	if _, err := connect(t, r, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	if warned := logs.FilterLevelExact(zapcore.WarnLevel).FilterField(zap.String("maxmemory_policy", "volatile-ttl")); warned.Len() != 1 {
		t.Errorf("got log lines %v, want one warning with the policy", logs.All())
	}
}

// Many providers forbid CONFIG, which is not needed. If INFO is forbidden too, the error
// says what to do.
func TestConnect_NeedsInfoButNotConfig(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--rename-command", "CONFIG", "")
	if _, err := connect(t, config.Redis{URL: faceki.Secret(srv.URL)}, zap.NewNop()); err != nil {
		t.Errorf("without CONFIG: %v", err)
	}
	admin := srv.Client(t)
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	r := config.Redis{URL: faceki.Secret("redis://plain:pw@" + srv.Addr)}
	_, err := connect(t, r, zap.NewNop())
	if problems := problemsOf(t, err); len(problems) != 1 || !strings.Contains(problems[0], "allow the command INFO") {
		t.Errorf("without INFO: %v", err)
	}
	r.AllowEviction = true
	if _, err := connect(t, r, zap.NewNop()); err != nil {
		t.Errorf("without INFO, and eviction allowed: %v", err)
	}
}

func TestConnect_FailsWithin5s(t *testing.T) {
	t.Parallel()
	secured := redistest.Start(t, "--requirepass", "right")
	gone := redistest.Start(t)
	gone.Stop()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, tt := range map[string]struct {
		addr string
		mode config.Mode
		want string
	}{
		"away":           {gone.Addr, config.Single, "cannot be reached: dial tcp " + gone.Addr + ": connect: connection refused; check that it runs"},
		"cluster away":   {gone.Addr, config.Cluster, "connection refused"},
		"sentinel away":  {gone.Addr, config.Sentinel, "cannot be reached"},
		"never answers":  {silent.Addr().String(), config.Single, "no answer within 4s"},
		"wrong password": {secured.Addr, config.Single, "refused the user or the password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "redis://default:hunter2@" + tt.addr
			if tt.mode == config.Sentinel {
				url += "?master_name=m"
			}
			watch := stall.New()
			defer watch.Close()
			begin := time.Now()
			_, err := config.Connect(context.WithoutCancel(t.Context()), config.Redis{URL: faceki.Secret(url), Mode: tt.mode}, zap.NewNop())
			if took, most := time.Since(begin), 5*time.Second+10*watch.Longest(); took > most { // 5 s on a machine that does not stall
				t.Errorf("Connect took %s, want at most %s", took, most)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "Redis at "+tt.addr+" (KYCLINK_REDIS_URL)") {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error contains the password: %v", err)
			}
			if e := (*config.Error)(nil); errors.As(err, &e) {
				t.Errorf("got an error of the settings, %v, although the settings are valid", err)
			}
		})
	}
}
