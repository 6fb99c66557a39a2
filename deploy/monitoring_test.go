package deploy

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	kyaml "sigs.k8s.io/yaml"
)

// rules are the alerts of prometheus/rules.yaml.
func rules(t *testing.T) (all []monitoring.Rule) {
	t.Helper()
	text, err := os.ReadFile("prometheus/rules.yaml")
	must(t, err)
	var spec monitoring.PrometheusRuleSpec
	must(t, kyaml.UnmarshalStrict(text, &spec))
	for _, g := range spec.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func TestAlerts_FireForWhatIsWrongAndNothingElse(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("promtool", "test", "rules", "prometheus/rules_test.yaml").CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
	tests, err := os.ReadFile("prometheus/rules_test.yaml")
	must(t, err)
	page, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	for _, r := range rules(t) {
		cases := strings.Split(string(tests), "expr: ALERTS{alertname=\""+r.Alert+"\"")[1:]
		quiet := slices.ContainsFunc(cases, func(c string) bool { return strings.HasPrefix(strings.SplitAfterN(c, "exp_samples:", 2)[1], " []") })
		loud := slices.ContainsFunc(cases, func(c string) bool { return strings.HasPrefix(strings.SplitAfterN(c, "exp_samples:", 2)[1], "\n") })
		if !quiet || !loud {
			t.Errorf("%s has no test in which it fires, or none in which it does not", r.Alert)
		}
		const base = "https://github.com/kyclink/kyclink/blob/main/docs/operations.md#"
		if r.Annotations["runbook_url"] != base+strings.ToLower(r.Alert) || !strings.Contains(string(page), "\n### "+r.Alert+"\n") {
			t.Errorf("%s leads to %q, want its section of docs/operations.md", r.Alert, r.Annotations["runbook_url"])
		}
		if !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) || r.Annotations["summary"] == "" {
			t.Errorf("%s has the severity %q and the summary %q", r.Alert, r.Labels["severity"], r.Annotations["summary"])
		}
	}
}

// expressions returns the queries of the alerts and dashboards by where they are.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range rules(t) {
		all["rules.yaml "+r.Alert] = r.Expr.String()
	}
	files, err := filepath.Glob("grafana/*.json")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for _, m := range regexp.MustCompile(`"(?:expr|query)": ("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(string(text), -1) {
			var expr string
			must(t, json.Unmarshal([]byte(m[1]), &expr))
			if expr != "prometheus" { // the type of the variable's data source
				all[file+" "+expr] = expr
			}
		}
	}
	if len(all) < 40 {
		t.Errorf("found only %d expressions", len(all))
	}
	return all
}

// Dashboards and alerts query metrics that the program really has, with its labels.
func TestMonitoring_QueriesMetricsThatExist(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"KYCLINK_REDIS_URL":      "redis://" + startRedis(t, "maxmemory 100mb\nmaxmemory-policy noeviction\nsave ''") + "/0",
		"KYCLINK_CALLBACK_HOSTS": "*", "KYCLINK_CALLBACK_SECRET": "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyEh", // so that workers read the results
	}
	worker := process{[]string{"worker", "--simulate"}, env}.start(t)
	several := process{[]string{"worker", "--simulate"}, map[string]string{
		"KYCLINK_REDIS_URL": env["KYCLINK_REDIS_URL"], "KYCLINK_ACCOUNTS": accountFiles(t, "bank", "shop"),
	}}.start(t)
	cert, key := certificate(t)
	for name, content := range map[string]string{"KYCLINK_TLS_CERT": cert, "KYCLINK_TLS_KEY": key} {
		env[name] = filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(env[name], []byte(content), 0o600))
	}
	serve := process{[]string{"serve"}, env}.start(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: patience}
	answer, err := client.Get("https://" + serve.api + "/v1/status")
	must(t, err)
	_ = answer.Body.Close()
	missing := map[string]string{} // a selector, and where it is used
	for where, expr := range expressions(t) {
		for _, selector := range regexp.MustCompile(`(?:kyclink|process)_[a-z_]+(?:\{[^}]*\})?`).FindAllString(expr, -1) {
			missing[selector] = where
		}
	}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	// Some metrics appear when a worker has read or written for the first time.
	for end := time.Now().Add(patience / 2); len(missing) > 0 && time.Now().Before(end); <-again.C {
		for _, address := range []string{worker.ops, several.ops, serve.ops} {
			text := scrape(t, address)
			maps.DeleteFunc(missing, func(selector, _ string) bool { return hasSeries(text, selector) })
		}
	}
	for selector, where := range missing {
		t.Errorf("%s: no process has the metric and the labels of %s", where, selector)
	}
}

// accountFiles returns a directory with a file for each account.
func accountFiles(t *testing.T, accounts ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range accounts {
		must(t, os.WriteFile(filepath.Join(dir, name+".env"), []byte("FACEKI_RATE=5/s\n"), 0o600))
	}
	return dir
}

func scrape(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	must(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	must(t, err)
	return string(text)
}

// hasSeries reports whether a scrape has a series of a metric with all labels of a selector,
// whatever their values.
func hasSeries(text, selector string) bool {
	name, matchers, _ := strings.Cut(selector, "{")
	labels := regexp.MustCompile(`[a-z]+(?:=~|!~|!=|=)"`).FindAllString(matchers, -1)
	for line := range strings.Lines(text) {
		if (strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{")) && !slices.ContainsFunc(labels, func(l string) bool {
			return !strings.Contains(line, strings.TrimRight(l, `=~!"`)+`="`)
		}) {
			return true
		}
	}
	return false
}

// addresses are where a process listens.
type addresses struct{ ops, api string }

// start starts a process, which ends with the test, and waits until it says where it listens.
func (p process) start(t *testing.T) addresses {
	t.Helper()
	cmd := p.command(t)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var found addresses
	var log strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&log, lines.Text())
		var line struct {
			Address string
			Ops     string `json:"ops_address"`
		}
		_ = json.Unmarshal(lines.Bytes(), &line) // other lines are for people
		if line.Ops != "" {
			found.ops = line.Ops
		}
		if line.Address != "" {
			found.api = line.Address
		}
		if found.ops != "" && (found.api != "" || p.args[0] == "worker") {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return found
		}
	}
	t.Fatalf("%v does not listen; it logged\n%s", p.args, &log)
	return found
}

// Prometheus can parse the queries of the dashboards.
func TestDashboards_HaveValidQueries(t *testing.T) {
	t.Parallel()
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var recorded []rule
	for where, expr := range expressions(t) {
		if !strings.HasPrefix(where, "rules.yaml") && !strings.HasPrefix(expr, "label_values(") {
			expr = strings.NewReplacer("$__rate_interval", "5m", "$account", "shop").Replace(expr)
			recorded = append(recorded, rule{fmt.Sprintf("query:%d", len(recorded)), expr})
		}
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "queries", "rules": recorded}}})
	must(t, err)
	file := filepath.Join(t.TempDir(), "queries.yaml")
	must(t, os.WriteFile(file, text, 0o600))
	if out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
