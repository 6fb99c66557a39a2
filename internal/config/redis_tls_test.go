package config_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// A private CA and a client certificate work with every mode, and for both clients of a
// process.
func TestConnect_UsesAPrivateCAAndAClientCertificate(t *testing.T) {
	t.Parallel()
	c, other := redistest.NewCertificates(t), redistest.NewCertificates(t)
	_, single := redistest.StartTLS(t, c)
	node, cluster := redistest.StartTLS(t, c, "--cluster-enabled", "yes", "--tls-cluster", "yes")
	fixture.Must(t, node.Client(t).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	fixture.Eventually(t, "the cluster is up", func() bool {
		info, err := node.Client(t).ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	for mode, url := range map[config.Mode]string{
		config.Single:   "rediss://" + single,
		config.Sentinel: redistest.StartTLSSentinel(t, c, single),
		config.Cluster:  "rediss://" + cluster,
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r := config.Redis{URL: faceki.Secret(url), Mode: mode, CA: c.CA, Cert: c.ClientCert, Key: c.ClientKey}
			fixture.Must(t, errors.Join(r.Validate()...))
			rdb, err := connect(t, r, zap.NewNop())
			fixture.Must(t, err)
			fixture.Must(t, rdb.Set(t.Context(), "k", "v", 0).Err())
			blocking, err := config.Blocking(r, 1)
			fixture.Must(t, err)
			t.Cleanup(func() { _ = blocking.Close() })
			fixture.Must(t, blocking.Ping(t.Context()).Err())

			for problem, change := range map[string]func(*config.Redis){
				"name the certificate of its CA in KYCLINK_REDIS_CA":                   func(r *config.Redis) { r.CA = "" },
				"signed by unknown authority":                                          func(r *config.Redis) { r.CA = other.CA },
				"name it and its key in KYCLINK_REDIS_CERT":                            func(r *config.Redis) { r.Cert, r.Key = "", "" },
				"check that it trusts the CA of the certificate in KYCLINK_REDIS_CERT": func(r *config.Redis) { r.Cert, r.Key = other.ClientCert, other.ClientKey },
			} {
				wrong := r
				change(&wrong)
				fixture.Eventually(t, problem, func() bool { // a busy server may not answer in time
					_, err := connect(t, wrong, zap.NewNop())
					if err == nil {
						t.Fatalf("connected, want an error with: %s", problem)
					}
					return strings.Contains(err.Error(), problem)
				})
			}
		})
	}
}

func TestLoad_RefusesWrongCertificatesOfRedis(t *testing.T) {
	t.Parallel()
	c, other := redistest.NewCertificates(t), redistest.NewCertificates(t)
	gone := filepath.Join(t.TempDir(), "gone.pem")
	const encrypted = "KYCLINK_REDIS_URL=rediss://redis.example:6379/0"
	for name, tt := range map[string]struct {
		environ []string
		want    string // "": no problem
	}{
		"all":            {[]string{encrypted, "KYCLINK_REDIS_CA=" + c.CA, "KYCLINK_REDIS_CERT=" + c.ClientCert, "KYCLINK_REDIS_KEY=" + c.ClientKey}, ""},
		"no TLS":         {[]string{"KYCLINK_REDIS_URL=redis://redis.example:6379/0", "KYCLINK_REDIS_CA=" + c.CA}, "KYCLINK_REDIS_CA is for TLS, but KYCLINK_REDIS_URL does not start with rediss://"},
		"no URL":         {[]string{"KYCLINK_REDIS_CA=" + c.CA}, "KYCLINK_REDIS_CA is set without KYCLINK_REDIS_URL"},
		"no key":         {[]string{encrypted, "KYCLINK_REDIS_CERT=" + c.ClientCert}, "KYCLINK_REDIS_CERT is set without KYCLINK_REDIS_KEY"},
		"no certificate": {[]string{encrypted, "KYCLINK_REDIS_KEY=" + c.ClientKey}, "KYCLINK_REDIS_KEY is set without KYCLINK_REDIS_CERT"},
		"CA gone":        {[]string{encrypted, "KYCLINK_REDIS_CA=" + gone}, "KYCLINK_REDIS_CA cannot be read (open " + gone},
		"CA is a key":    {[]string{encrypted, "KYCLINK_REDIS_CA=" + c.ClientKey}, "KYCLINK_REDIS_CA names " + c.ClientKey + ", which contains no certificate"},
		"cert gone":      {[]string{encrypted, "KYCLINK_REDIS_CERT=" + gone, "KYCLINK_REDIS_KEY=" + c.ClientKey}, "KYCLINK_REDIS_CERT cannot be read (open " + gone},
		"key gone":       {[]string{encrypted, "KYCLINK_REDIS_CERT=" + c.ClientCert, "KYCLINK_REDIS_KEY=" + gone}, "KYCLINK_REDIS_KEY cannot be read (open " + gone},
		"no pair":        {[]string{encrypted, "KYCLINK_REDIS_CERT=" + c.ClientCert, "KYCLINK_REDIS_KEY=" + other.ClientKey}, "KYCLINK_REDIS_KEY (" + other.ClientKey + ") are not a certificate and its key"},
		"swapped":        {[]string{encrypted, "KYCLINK_REDIS_CERT=" + c.ClientKey, "KYCLINK_REDIS_KEY=" + c.ClientCert}, "KYCLINK_REDIS_CERT (" + c.ClientKey + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(tt.environ, config.Needs{})
			if tt.want == "" {
				fixture.Must(t, err)
				return
			}
			if problems := problemsOf(t, err); len(problems) != 1 || !strings.Contains(problems[0], tt.want) {
				t.Errorf("got %q, want one problem with: %s", problems, tt.want)
			}
		})
	}
}
