// Package deploy tests the files with which kyclink is deployed, without a cluster and
// without a container engine: the chart, the compose file and the units of systemd. Each
// environment that they describe starts the real program.
package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

const (
	chartDir  = "helm/kyclink"
	namespace = "kyc"
	release   = "r1"
)

// cases returns the sets of values in testdata/values, by name.
func cases(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob("testdata/values/*.yaml")
	must(t, err)
	all := map[string]map[string]any{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = parse(t, string(content))
	}
	if len(all) < 12 {
		t.Fatalf("%d sets of values in testdata/values, want at least 12", len(all))
	}
	return all
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	must(t, yaml.UnmarshalStrict([]byte(text), &values))
	return values
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	must(t, err)
	return c
}

// render returns the texts that the chart makes of values, by template.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	c := loadChart(t)
	with, err := util.ToRenderValues(c, values, common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities.Copy())
	if err != nil {
		return nil, err
	}
	return engine.Render(c, with)
}

func TestChart_HasNoProblemForHelmLint(t *testing.T) {
	t.Parallel()
	all := cases(t)
	all["none"] = map[string]any{} // what helm lint gets without -f
	for name, values := range all {
		for _, m := range lint.RunAll(chartDir, values, namespace).Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

func TestChart_NotesNameTheNextSteps(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"minimal": {"deployment/r1-kyclink-worker", "/kyclink keys create", "port-forward service/r1-kyclink-serve 8080:80", "The API is not encrypted", "Nobody reads the metrics"},
		"ingress": {"https://links.example/"},
		"route":   {"https://links.example/"},
		"tls":     {"https://127.0.0.1:8080/"},
	} {
		files, err := render(t, cases(t)[name])
		must(t, err)
		notes := files["kyclink/templates/NOTES.txt"]
		for _, text := range want {
			if !strings.Contains(notes, text) {
				t.Errorf("%s: the notes lack %q:\n%s", name, text, notes)
			}
		}
	}
}

func TestChart_RefusesWrongValuesWithASentence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ values, want string }{
		{"image: {repository: ''}", "image.repository is missing; set it to where you pushed the image"},
		{"image: {tag: 1.0.0, digest: 'sha256:" + strings.Repeat("0", 64) + "'}", "image.tag and image.digest are both set; unset one of them"},
		{"image: {digest: 'sha256:1'}", "at '/image/digest': 'sha256:1' does not match pattern"},
		{"redis: {existingSecret: ''}", "redis.existingSecret is missing; create a Secret"},
		{"redis: {mode: replicated}", "at '/redis/mode': value must be one of 'single', 'sentinel', 'cluster'"},
		{"redis: {url: 'redis://redis.example'}", "at '/redis': additional properties 'url' not allowed"},
		{"faceki: {existingSecret: ''}", "faceki.existingSecret is missing; create a Secret"},
		{"settings: {FACEKI_RATES: 5/s}", "at '/settings': additional properties 'FACEKI_RATES' not allowed"},
		{"settings: {FACEKI_RATE: 5}", "at '/settings/FACEKI_RATE': got number, want string"},
		{"settings: {FACEKI_TIMEOUT: 2m}", "at '/settings/FACEKI_TIMEOUT': '2m' does not match pattern"},
		{"settings: {KYCLINK_REDIS_URL: 'redis://redis.example'}", "at '/settings': additional properties 'KYCLINK_REDIS_URL' not allowed"},
		{"settings: {KYCLINK_CALLBACK_HOSTS: shop.example}", "settings.KYCLINK_CALLBACK_HOSTS turns callbacks on, but callbacks.existingSecret is missing"},
		{"redis: {existingSecret: redis, tls: {existingSecret: redis-tls, certKey: tls.crt}}", "redis.tls.certKey is set without redis.tls.keyKey; set both or neither"},
		{"redis: {existingSecret: redis, tls: {existingSecret: redis-tls, keyKey: tls.key}}", "redis.tls.keyKey is set without redis.tls.certKey; set both or neither"},
		{"redis: {existingSecret: redis, tls: {certKey: tls.crt, keyKey: tls.key}}", "redis.tls.certKey is a key of redis.tls.existingSecret, which is missing"},
		{"redis: {existingSecret: redis, tls: {existingSecret: redis-tls, caKey: ''}}", "redis.tls.existingSecret is set without redis.tls.caKey and redis.tls.certKey"},
		{"callbacks: {proxyKey: proxy}", "callbacks.proxyKey is a key of callbacks.existingSecret, which is missing"},
		{"worker: {replicaCount: 3}", "at '/worker': additional properties 'replicaCount' not allowed"},
		{"worker: {replicas: -1}", "at '/worker/replicas': minimum: got -1, want 0"},
		{"worker: {autoscaling: {enabled: true}}", "worker.autoscaling.prometheus is missing; set it to the URL of Prometheus"},
		{"worker: {autoscaling: {enabled: true, prometheus: 'http://p:9090'}}", "worker.autoscaling needs serviceMonitor.enabled"},
		{"worker: {accounts: {existingSecret: accounts}, autoscaling: {enabled: true, prometheus: 'http://p:9090'}}", "worker.autoscaling follows the backlog of one account"},
		{"{serviceMonitor: {enabled: true}, worker: {autoscaling: {enabled: true, prometheus: 'http://p:9090'}}}", "worker.autoscaling needs a number in settings.KYCLINK_CONCURRENCY"},
		{"{serviceMonitor: {enabled: true}, settings: {KYCLINK_CONCURRENCY: '8'}, worker: {autoscaling: {enabled: true, prometheus: 'http://p:9090', minReplicas: 5, maxReplicas: 4}}}", "worker.autoscaling.minReplicas is 5, which is more than maxReplicas, 4; lower it"},
		{"{ingress: {enabled: true, host: a.example}, route: {enabled: true, parentRefs: [{name: g}]}}", "ingress.enabled and route.enabled are both true; use one of them"},
		{"ingress: {enabled: true}", "ingress.host is missing"},
		{"route: {enabled: true}", "route.parentRefs is empty; name the Gateway"},
		{"networkPolicy: {redisPorts: []}", "at '/networkPolicy/redisPorts': minItems: got 0, want 1"},
		{"extraEnv: [{name: KYCLINK_LISTEN, value: ':80'}]", "extraEnv sets KYCLINK_LISTEN, which the chart sets itself"},
		{"{settings: {FACEKI_RATE: 5/s}, extraEnv: [{name: FACEKI_RATE, value: 6/s}]}", "extraEnv and settings both set FACEKI_RATE; remove one of them"},
		{"extraEnv: [{name: A, value: b}, {name: A, value: c}]", "extraEnv sets A twice; remove one of them"},
		{"extraEnv: [{name: A}]", "at '/extraEnv/0': missing property 'value'"},
		{"colour: blue", "additional properties 'colour' not allowed"},
	} {
		values := parse(t, "{image: {repository: registry.example/kyclink}, redis: {existingSecret: redis}, faceki: {existingSecret: faceki}}")
		_, err := render(t, util.CoalesceTables(parse(t, c.values), values))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("values %s are refused with\n%v\nwant\n%s", c.values, err, c.want)
		}
	}
}

// The values of a person who mistypes a name are refused, at every level.
func TestChart_SchemaIsStrictAtEveryLevel(t *testing.T) {
	t.Parallel()
	open := map[string]bool{"/properties/global": true, "/properties/extraObjects/items": true}
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch node := node.(type) {
		case map[string]any:
			if node["type"] == "object" && !open[path] {
				if _, texts := node["additionalProperties"].(map[string]any); !texts && node["additionalProperties"] != false {
					t.Errorf("values.schema.json permits any name in %s", path)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(node)) {
				walk(path+"/"+key, node[key])
			}
		case []any:
			for _, item := range node {
				walk(path, item)
			}
		}
	}
	content, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	must(t, err)
	walk("", any(parse(t, string(content))))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
