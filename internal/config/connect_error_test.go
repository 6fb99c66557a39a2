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

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// loading starts a Redis that takes an hour to load its data.
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

// unsaved starts a Redis whose last snapshot failed.
func unsaved(t *testing.T) (addr string) {
	t.Helper()
	gone := filepath.Join(t.TempDir(), "gone")
	fixture.Must(t, os.Mkdir(gone, 0o700))
	srv := redistest.Start(t, "--dir", gone)
	rdb := srv.Client(t)
	fixture.Must(t, os.Remove(gone))
	fixture.Must(t, rdb.ConfigSet(t.Context(), "save", "3600 1").Err())
	t.Cleanup(func() { fixture.Must(t, rdb.ConfigSet(context.Background(), "save", "").Err()) }) // otherwise SHUTDOWN fails
	fixture.Must(t, rdb.BgSave(t.Context()).Err())
	fixture.Eventually(t, "the snapshot fails", func() bool {
		return strings.Contains(rdb.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
	return srv.Addr
}

// encrypted starts a Redis that accepts only TLS, with a certificate that is not trusted.
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
	fixture.Eventually(t, "the encrypted Redis answers", func() bool { return rdb.Ping(t.Context()).Err() == nil })
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
	node := redistest.Start(t, "--cluster-enabled", "yes")
	fixture.Must(t, node.Client(t).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
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
		"database":                   {"redis://" + plain.Addr + "/99", "", "does not have that database", true},
		"loading":                    {"redis://" + loading(t), "", "still loading", false},
		"cannot save":                {"redis://" + unsaved(t), "", "cannot save its data to disk", false},
		"too many clients":           {"redis://" + crowded.Addr, "", "maxclients", false},
		"no cluster":                 {"redis://" + plain.Addr, config.Cluster, "is not a cluster; unset KYCLINK_REDIS_MODE", true},
		"a cluster's node":           {"redis://" + node.Addr, "", "KYCLINK_REDIS_MODE=cluster", true},
		"no password":                {"redis://" + secured.Addr, "", "requires a password", false},
		"wrong password":             {"redis://:wrong@" + secured.Addr, "", "refused the user or the password", false},
		"forbidden":                  {"redis://mute:pw@" + plain.Addr, "", "does not allow its user", false},
		"a sentinel":                 {"redis://" + watcher.Host, "", "is a sentinel", true},
		"a sentinel's db":            {"redis://" + watcher.Host + "/1", "", "is a sentinel", true},
		"no sentinel":                {"redis://" + plain.Addr + "?master_name=m", config.Sentinel, "is not a sentinel", true},
		"unknown master":             {"redis://" + watcher.Host + "?master_name=nobody", config.Sentinel, `master_name "nobody"`, true},
		"a replica":                  {"redis://" + replica.Addr, "", "is a replica", true},
		"a sentinel in mode cluster": {"redis://" + watcher.Host, config.Cluster, "sentinel", true},
		"a web server":               {"redis://" + web.Listener.Addr().String(), "", "does not reply as a Redis server does", false},
		"TLS only":                   {"redis://" + encrypted, "", "should start with rediss:// (TLS)", false},
		"no TLS":                     {"rediss://" + plain.Addr, "", "should start with redis:// (without TLS)", false},
		"an unknown CA":              {"rediss://" + encrypted, "", "certificate that cannot be verified", false},
	} {
		mode := tt.mode
		if mode == "" {
			mode = config.Single
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := connect(t, config.Redis{URL: faceki.Secret(tt.url), Mode: mode}, zap.NewNop())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "check that it runs") {
				t.Errorf("got error %v, want one that contains %q", err, tt.want)
			}
			if _, setting := errors.AsType[*config.Error](err); setting != tt.setting {
				t.Errorf("got error of the settings: %t, want %t", setting, tt.setting)
			}
		})
	}
}

func TestRedis_RefusesSmallPoolsAndUnverifiedTLS(t *testing.T) {
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
			t.Errorf("%s: got problems %q, want %q", name, problems, tt.want)
		}
	}
}

func TestRedis_UnencryptedReturnsARemoteHostWithoutTLS(t *testing.T) {
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
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
	}
}
