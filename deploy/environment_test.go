package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// secrets returns the invented Secrets that the sets of values name, by "name/key", with a
// Redis at an address. Those of other modes than single name a Redis that does not exist.
func secrets(t *testing.T, redis string) map[string]string {
	t.Helper()
	cert, key := certificate(t)
	return map[string]string{
		"redis/url":                  "redis://" + redis + "/0",
		"redis-tls/worker-url":       "rediss://worker:invented@127.0.0.1:1/0",
		"redis-tls/serve-url":        "rediss://serve:invented@127.0.0.1:1/0",
		"redis-sentinel/url":         "redis://127.0.0.1:1/0?master_name=kyclink&addr=127.0.0.1:2&username=worker&password=invented",
		"redis-cluster/url":          "redis://worker:invented@127.0.0.1:1?addr=127.0.0.1:2",
		"faceki/client-id":           "invented-id",
		"faceki/client-secret":       "invented-secret",
		"faceki/id":                  "invented-id",
		"faceki/secret":              "invented-secret",
		"callbacks/secret":           "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
		"callbacks/proxy":            "http://proxy.example:3128",
		"links-tls/tls.crt":          cert,
		"links-tls/tls.key":          key,
		"redis-certificates/ca.crt":  cert,
		"redis-certificates/tls.crt": cert,
		"redis-certificates/tls.key": key,
		"extra/token":                "invented",
		"accounts/shop.env":          "FACEKI_CLIENT_ID=invented-id\nFACEKI_CLIENT_SECRET=invented-secret",
		"accounts/bank.env":          "FACEKI_CLIENT_ID=another-id\nFACEKI_CLIENT_SECRET=another-secret\nFACEKI_RATE=5/s",
	}
}

// certificate makes a certificate that signs itself, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"links.example"}}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

// TestChart_EnvironmentsStartTheProgram starts every container of every set of values,
// with the files that its Secrets would be, and asks its probes.
func TestChart_EnvironmentsStartTheProgram(t *testing.T) {
	t.Parallel()
	redis := startRedis(t, "save ''")
	for name, values := range cases(t) {
		for _, d := range deployments(objects(t, values)) {
			t.Run(name+"/"+d.Name, func(t *testing.T) {
				t.Parallel()
				c := d.Spec.Template.Spec.Containers[0]
				p := process{c.Args, environment(t, d.Spec.Template.Spec, secrets(t, redis))}
				for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
					expectAtOps(t, probe, c)
				}
				if slices.Contains([]string{"acl", "sentinel", "cluster"}, name) {
					p.expectNoRedis(t)
				} else {
					p.expectReady(t, c.ReadinessProbe.HTTPGet.Path)
				}
			})
		}
	}
}

// environment returns the variables of a pod's container. The files of its volumes are
// written to a folder, and paths to them lead there.
func environment(t *testing.T, pod core.PodSpec, secrets map[string]string) map[string]string {
	t.Helper()
	c, root, env := pod.Containers[0], t.TempDir(), map[string]string{}
	secret := func(name, key string) string {
		value, known := secrets[name+"/"+key]
		if !known {
			t.Errorf("no Secret has %s/%s", name, key)
		}
		return value
	}
	var mounted []string
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			t.Fatalf("no volume has the name %s", m.Name)
		}
		volume := pod.Volumes[i]
		if volume.Projected == nil && volume.Secret == nil {
			continue
		}
		mounted = append(mounted, m.MountPath)
		must(t, os.MkdirAll(filepath.Join(root, m.MountPath), 0o700))
		if volume.Secret != nil { // all of its keys
			for path, content := range secrets {
				if key, ok := strings.CutPrefix(path, volume.Secret.SecretName+"/"); ok {
					must(t, os.WriteFile(filepath.Join(root, m.MountPath, key), []byte(content+"\n"), 0o600))
				}
			}
			continue
		}
		for _, source := range volume.Projected.Sources {
			for _, item := range source.Secret.Items {
				must(t, os.WriteFile(filepath.Join(root, m.MountPath, item.Path), []byte(secret(source.Secret.Name, item.Key)+"\n"), 0o600))
			}
		}
	}
	for _, e := range c.Env {
		value := e.Value
		switch from := e.ValueFrom; {
		case from == nil:
			if slices.ContainsFunc(mounted, func(path string) bool { return value == path || strings.HasPrefix(value, path+"/") }) {
				value = filepath.Join(root, value)
			}
		case from.SecretKeyRef != nil:
			value = secret(from.SecretKeyRef.Name, from.SecretKeyRef.Key)
		case from.ResourceFieldRef != nil:
			value = strconv.FormatInt(c.Resources.Limits.Memory().Value(), 10)
		default:
			value = "a-field"
		}
		if _, twice := env[e.Name]; twice {
			t.Errorf("%s is set twice", e.Name)
		}
		env[e.Name] = value
	}
	return env
}

// expectAtOps fails unless a probe asks the port on which the container serves its health.
func expectAtOps(t *testing.T, probe *core.Probe, c core.Container) {
	t.Helper()
	i := slices.IndexFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == probe.HTTPGet.Port.StrVal })
	j := slices.IndexFunc(c.Env, func(e core.EnvVar) bool { return e.Name == "KYCLINK_OPS_LISTEN" })
	if i < 0 || j < 0 || c.Env[j].Value != ":"+strconv.Itoa(int(c.Ports[i].ContainerPort)) {
		t.Errorf("a probe of %s asks port %v, which is not that of KYCLINK_OPS_LISTEN", c.Name, probe.HTTPGet.Port)
	}
}
