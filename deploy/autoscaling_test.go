package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestChart_ScalesToUsefulWorkers runs the query of the ScaledObject on the metrics of a
// fleet. KEDA divides its result by the threshold, the concurrency limit of a worker.
func TestChart_ScalesToUsefulWorkers(t *testing.T) {
	t.Parallel()
	query, threshold := trigger(t)
	if threshold != "64" {
		t.Errorf("a worker is expected to make %s calls at a time, want 64, its KYCLINK_CONCURRENCY", threshold)
	}
	const here = `namespace="kyc",job="r1-kyclink-metrics"`
	fleet := func(bulk, interactive int, labels string) []string {
		var series []string
		for pod := range 2 { // every process has the metrics of the account
			of := fmt.Sprintf(`%s,pod="%d",account="shop"`, labels, pod)
			series = append(series,
				fmt.Sprintf(`kyclink_backlog_requests{%s,lane="bulk"} %d+0x20`, of, bulk),
				fmt.Sprintf(`kyclink_backlog_requests{%s,lane="interactive"} %d+0x20`, of, interactive),
				fmt.Sprintf(`kyclink_rate_limit_calls_per_second{%s} 500+0x20`, of))
		}
		return series
	}
	calls := func(labels string, seconds, count int) []string { // in each minute
		var series []string
		for pod := range 2 {
			of := fmt.Sprintf(`%s,pod="%d",outcome="created"`, labels, pod)
			series = append(series,
				fmt.Sprintf(`kyclink_call_duration_seconds_sum{%s} 0+%dx20`, of, seconds),
				fmt.Sprintf(`kyclink_call_duration_seconds_count{%s} 0+%dx20`, of, count))
		}
		return series
	}
	for _, c := range []struct {
		name   string
		series [][]string
		want   int
	}{
		{"much to do: rate × latency of 0.4 s", [][]string{fleet(100_000, 10, here), calls(here, 20, 50)}, 200},
		{"little to do: the backlog", [][]string{fleet(40, 10, here), calls(here, 20, 50)}, 50},
		{"nothing to do", [][]string{fleet(0, 0, here), calls(here, 20, 50)}, 0},
		{"no call yet: rate × 1 s", [][]string{fleet(100_000, 0, here)}, 500},
		{"no call for a while: rate × 1 s", [][]string{fleet(100_000, 0, here), calls(here, 0, 0)}, 500},
		{"another release is slower", [][]string{fleet(100_000, 0, here), calls(here, 20, 50), calls(`namespace="other",job="r1-kyclink-metrics"`, 500, 50)}, 200},
	} {
		var inputs []map[string]string
		for _, group := range c.series {
			for _, line := range group {
				series, values, _ := strings.Cut(line, "} ")
				inputs = append(inputs, map[string]string{"series": series + "}", "values": values})
			}
		}
		file, err := yaml.Marshal(map[string]any{"tests": []any{map[string]any{
			"interval": "1m", "input_series": inputs,
			"promql_expr_test": []any{map[string]any{
				"expr": "sum(" + query + ")", "eval_time": "15m",
				"exp_samples": []any{map[string]any{"labels": "{}", "value": c.want}},
			}},
		}}})
		must(t, err)
		path := filepath.Join(t.TempDir(), "query.yaml")
		must(t, os.WriteFile(path, file, 0o600))
		if out, err := exec.Command("promtool", "test", "rules", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

// trigger returns the query and the threshold of the ScaledObject.
func trigger(t *testing.T) (query, threshold string) {
	t.Helper()
	for _, o := range objects(t, cases(t)["autoscaled"]) {
		if o.kind != scaledObject.Kind {
			continue
		}
		triggers, _, err := unstructured.NestedSlice(o.Object.(*unstructured.Unstructured).Object, "spec", "triggers")
		must(t, err)
		metadata := triggers[0].(map[string]any)["metadata"].(map[string]any)
		return metadata["query"].(string), metadata["threshold"].(string)
	}
	t.Fatal("the chart makes no ScaledObject")
	return "", ""
}
