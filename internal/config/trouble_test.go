package config_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// loading is a Redis that needs an hour to load its data.
func loading(t *testing.T) (addr string) {
	t.Helper()
	dir := t.TempDir()
	srv := redistest.Start(t, "--dir", dir, "--rdbcompression", "no")
	rdb := srv.Client(t)
	for n := range 1000 {
		fixture.Must(t, rdb.Set(t.Context(), fmt.Sprint(n), strings.Repeat("x", 4<<10), 0).Err())
	}
	fixture.Must(t, rdb.Save(t.Context()).Err())
	port, err := redistest.FreePort()
	fixture.Must(t, err)
	cmd := exec.Command("redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--key-load-delay", "100000",
		"--loading-process-events-interval-bytes", "1024")
	fixture.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprint("127.0.0.1:", port)
}

// unsaved is a Redis that could not write its snapshot.
func unsaved(t *testing.T) (addr string) {
	t.Helper()
	gone := filepath.Join(t.TempDir(), "gone")
	fixture.Must(t, os.Mkdir(gone, 0o700))
	srv := redistest.Start(t, "--dir", gone)
	rdb := srv.Client(t)
	fixture.Must(t, os.Remove(gone))
	fixture.Must(t, rdb.ConfigSet(t.Context(), "save", "3600 1").Err())
	t.Cleanup(func() { fixture.Must(t, rdb.ConfigSet(context.Background(), "save", "").Err()) }) // else it does not end
	fixture.Must(t, rdb.BgSave(t.Context()).Err())
	for until := time.Now().Add(time.Minute); !strings.Contains(rdb.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err"); {
		if time.Now().After(until) {
			t.Fatal("the snapshot does not fail")
		}
	}
	return srv.Addr
}

// encrypted is a Redis that accepts TLS only, with a certificate that is not trusted.
func encrypted(t *testing.T) (addr string) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	pair := web.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	fixture.Must(t, err)
	dir := t.TempDir()
	cert, secret := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	fixture.Must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	fixture.Must(t, os.WriteFile(secret, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	port, err := redistest.FreePort()
	fixture.Must(t, err)
	cmd := exec.Command("redis-server", "--port", "0", "--tls-port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--tls-cert-file", cert, "--tls-key-file", secret, "--tls-auth-clients", "no")
	fixture.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr = fmt.Sprint("127.0.0.1:", port)
	rdb := redis.NewClient(&redis.Options{Addr: addr, TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	defer func() { _ = rdb.Close() }()
	for until := time.Now().Add(time.Minute); rdb.Ping(t.Context()).Err() != nil; {
		if time.Now().After(until) {
			t.Fatal("the encrypted Redis does not start")
		}
	}
	return addr
}

func TestConnect_ExplainsEveryAnswerOfRedis(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t)
	secured := redistest.Start(t, "--requirepass", "right")
	fixture.Must(t, secured.Client(t).Do(t.Context(), "AUTH", "right").Err())
	crowded := redistest.Start(t, "--maxclients", "1")
	crowd := redis.NewClient(&redis.Options{Addr: crowded.Addr, MinIdleConns: 1})
	t.Cleanup(func() { _ = crowd.Close() })
	fixture.Must(t, crowd.Ping(t.Context()).Err())
	replica := redistest.Start(t, "--replicaof", strings.ReplaceAll(plain.Addr, ":", " "))
	forbidden := plain.Client(t)
	fixture.Must(t, forbidden.Do(t.Context(), "ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "-ping").Err())
	cluster := redistest.StartCluster(t)
	node, err := url.Parse(cluster.URL)
	fixture.Must(t, err)
	web := httptest.NewServer(nil)
	t.Cleanup(web.Close)
	encrypted := encrypted(t)
	sentinels := redistest.StartSentinel(t)
	watcher, err := url.Parse(sentinels.URL)
	fixture.Must(t, err)

	for name, tt := range map[string]struct {
		url     string
		mode    config.Mode
		want    string
		setting bool
	}{
		"database":            {"redis://" + plain.Addr + "/99", "", "does not have that database", true},
		"loading":             {"redis://" + loading(t), "", "still loading", false},
		"cannot save":         {"redis://" + unsaved(t), "", "cannot save its data to disk", false},
		"too many clients":    {"redis://" + crowded.Addr, "", "maxclients", false},
		"no cluster":          {"redis://" + plain.Addr, config.Cluster, "is not a cluster; unset KYCLINK_REDIS_MODE", true},
		"a cluster's node":    {"redis://" + node.Host, "", "KYCLINK_REDIS_MODE=cluster", true},
		"no password":         {"redis://" + secured.Addr, "", "wants a password", false},
		"wrong password":      {"redis://:wrong@" + secured.Addr, "", "wrong user or password", false},
		"forbidden":           {"redis://mute:pw@" + plain.Addr, "", "does not allow its user", false},
		"a sentinel":          {"redis://" + watcher.Host, "", "is a sentinel", true},
		"a sentinel's db":     {"redis://" + watcher.Host + "/1", "", "is a sentinel", true},
		"no sentinel":         {"redis://" + plain.Addr + "?master_name=m", config.Sentinel, "is not a sentinel", true},
		"unknown master":      {"redis://" + watcher.Host + "?master_name=nobody", config.Sentinel, `master_name "nobody"`, true},
		"a replica":           {"redis://" + replica.Addr, "", "is a replica", true},
		"a cluster sentinels": {"redis://" + watcher.Host, config.Cluster, "sentinel", true},
		"a web server":        {"redis://" + web.Listener.Addr().String(), "", "is not a Redis server, by its answer", false},
		"TLS only":            {"redis://" + encrypted, "", "should start with rediss:// (TLS)", false},
		"no TLS":              {"rediss://" + plain.Addr, "", "should start with redis:// (without TLS)", false},
		"an unknown CA":       {"rediss://" + encrypted, "", "certificate that cannot be verified", false},
	} {
		mode := tt.mode
		if mode == "" {
			mode = config.Single
		}
		_, err := connect(t, config.Redis{URL: faceki.Secret(tt.url), Mode: mode}, zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "check that it runs") {
			t.Errorf("%s: %v", name, err)
		}
		if _, setting := errors.AsType[*config.Error](err); setting != tt.setting {
			t.Errorf("%s: a settings error: %v, want %v", name, setting, tt.setting)
		}
	}
}

func TestRedis_RefusesURLs(t *testing.T) {
	for name, tt := range map[string]struct {
		redis config.Redis
		want  string // "" if it is accepted
	}{
		"a small pool":             {config.Redis{Mode: config.Single, URL: "redis://h:1?pool_size=1"}, "allows 1 connections"},
		"a small cluster pool":     {config.Redis{Mode: config.Cluster, URL: "redis://h:1?pool_size=7"}, "allows 7 connections"},
		"few active":               {config.Redis{Mode: config.Sentinel, URL: "redis://h:1?master_name=m&max_active_conns=2"}, "allows 2 connections"},
		"a pool":                   {config.Redis{Mode: config.Single, URL: "redis://h:1?pool_size=8"}, ""},
		"no certificate":           {config.Redis{Mode: config.Single, URL: "rediss://h:1?skip_verify=true"}, "KYCLINK_REDIS_ALLOW_SKIP_VERIFY=true"},
		"no certificate, allowed":  {config.Redis{Mode: config.Single, URL: "rediss://h:1?skip_verify=true", AllowSkipVerify: true}, ""},
		"a sentinel's certificate": {config.Redis{Mode: config.Sentinel, URL: "rediss://h:1?master_name=m&skip_verify=true"}, "KYCLINK_REDIS_ALLOW_SKIP_VERIFY=true"},
		"a certificate":            {config.Redis{Mode: config.Single, URL: "rediss://h:1?skip_verify=false"}, ""},
	} {
		problems := tt.redis.Validate()
		if tt.want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || tt.want == "" || !strings.Contains(problems[0].Error(), tt.want) || !strings.HasPrefix(problems[0].Error(), "KYCLINK_REDIS_URL ") {
			t.Errorf("%s: %q", name, problems)
		}
	}
}

func TestRedis_Unencrypted(t *testing.T) {
	for url, want := range map[string]string{
		"redis://10.0.0.1:1": "10.0.0.1", "redis://:pw@redis:6379": "redis", "redis://127.0.0.1:1": "", "redis://localhost:1": "",
		"redis://[::1]:1": "", "rediss://redis:1": "", "unix:///run/redis.sock": "", "": "",
		"redis://127.0.0.1:1?addr=cache-2:1": "cache-2",
	} {
		mode := config.Single
		if strings.Contains(url, "addr=") {
			mode = config.Cluster
		}
		if got := (config.Redis{URL: faceki.Secret(url), Mode: mode}).Unencrypted(); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
