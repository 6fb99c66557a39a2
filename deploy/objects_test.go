package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/yannh/kubeconform/pkg/validator"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	kyaml "sigs.k8s.io/yaml"
)

// scaledObject is the only kind whose Go types are not at hand: they would bring in all of
// KEDA. Its schema in testdata/schemas checks it.
var scaledObject = schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"}

// object is one object that the chart makes.
type object struct {
	runtime.Object
	kind string
	text []byte
}

// objects decodes what the chart makes of values, and fails for a field that its kind does
// not have.
func objects(t *testing.T, values map[string]any) []object {
	t.Helper()
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, core.AddToScheme, networking.AddToScheme, disruption.AddToScheme, monitoring.AddToScheme, gateway.Install,
	} {
		must(t, add(types))
	}
	types.AddKnownTypeWithName(scaledObject, &unstructured.Unstructured{})
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	files, err := render(t, values)
	must(t, err)
	var all []object
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		documents := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text)))
		for {
			document := make([]byte, len(text)+1)
			n, err := documents.Read(document)
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if document = bytes.TrimSpace(document[:n]); len(document) == 0 {
				continue
			}
			decoded, kind, err := decoder.Decode(document, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, document)
			}
			all = append(all, object{decoded, kind.Kind, document})
		}
	}
	return all
}

// deployments returns the Deployments among objects.
func deployments(all []object) []*apps.Deployment {
	var found []*apps.Deployment
	for _, o := range all {
		if d, ok := o.Object.(*apps.Deployment); ok {
			found = append(found, d)
		}
	}
	return found
}

func TestChart_MakesTheObjectsThatItsValuesAskFor(t *testing.T) {
	t.Parallel()
	always := []string{"Deployment", "Deployment", "Service"}
	more := map[string][]string{
		"autoscaled": {"ScaledObject", "ServiceMonitor", "Service"},
		"extras":     {"ConfigMap"},
		"ingress":    {"Ingress"},
		"isolated":   {"NetworkPolicy"},
		"monitored":  {"PrometheusRule", "ServiceMonitor", "Service"},
		"route":      {"HTTPRoute"},
	}
	for name, values := range cases(t) {
		want := append(slices.Clone(always), more[name]...)
		if name != "isolated" {
			want = append(want, "PodDisruptionBudget", "PodDisruptionBudget")
		}
		var got []string
		for _, o := range objects(t, values) {
			got = append(got, o.kind)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the chart makes %v, want %v", name, got, want)
		}
	}
}

func TestChart_CustomResourcesMatchTheirSchemas(t *testing.T) {
	t.Parallel()
	schemas, err := validator.New([]string{"testdata/schemas/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"}, validator.Opts{Strict: true})
	must(t, err)
	kinds := map[string]bool{"ServiceMonitor": false, "PrometheusRule": false, "ScaledObject": false, "HTTPRoute": false}
	for name, values := range cases(t) {
		for _, o := range objects(t, values) {
			if _, custom := kinds[o.kind]; !custom {
				continue
			}
			kinds[o.kind] = true
			for _, r := range schemas.Validate(o.kind, io.NopCloser(bytes.NewReader(o.text))) {
				if r.Status != validator.Valid {
					t.Errorf("%s: %s: %v", name, o.kind, r.Err)
				}
			}
		}
	}
	for kind, checked := range kinds {
		if !checked {
			t.Errorf("no set of values makes a %s", kind)
		}
	}
}

func TestChart_PodsAreRestricted(t *testing.T) {
	t.Parallel()
	restricted, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(t, err)
	for name, values := range cases(t) {
		for _, d := range deployments(objects(t, values)) {
			pod := d.Spec.Template
			level := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
			if r := policy.AggregateCheckResults(restricted.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
				t.Errorf("%s: pod security refuses %s: %s", name, d.Name, r.ForbiddenDetail())
			}
			for _, c := range pod.Spec.Containers {
				if root := c.SecurityContext.ReadOnlyRootFilesystem; root == nil || !*root {
					t.Errorf("%s: the root of %s can be written", name, d.Name)
				}
			}
			if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token {
				t.Errorf("%s: %s gets a token of Kubernetes, which it does not need", name, d.Name)
			}
			if links := pod.Spec.EnableServiceLinks; links == nil || *links {
				t.Errorf("%s: %s gets variables of services, which would look like settings", name, d.Name)
			}
		}
	}
}

// A worker finishes its calls before it is killed, whatever FACEKI_TIMEOUT is.
func TestChart_GracePeriodIsLongerThanACall(t *testing.T) {
	t.Parallel()
	for name, seconds := range map[string]int64{"minimal": 15 + 15, "tuned": 60 + 15} {
		for _, d := range deployments(objects(t, cases(t)[name])) {
			if grace := *d.Spec.Template.Spec.TerminationGracePeriodSeconds; strings.HasSuffix(d.Name, "-worker") && grace < seconds {
				t.Errorf("%s: a worker is killed after %d s, want at least %d s", name, grace, seconds)
			}
		}
	}
}

// serve answers until Kubernetes sends it no more requests.
func TestChart_ServeStopsAfterItsEndpoint(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(objects(t, cases(t)["minimal"])) {
		hook := d.Spec.Template.Spec.Containers[0].Lifecycle
		if strings.HasSuffix(d.Name, "-serve") && (hook == nil || hook.PreStop.Sleep.Seconds < 5) {
			t.Errorf("%s stops at once", d.Name)
		}
	}
}

// Every object that selects pods selects those of this release.
func TestChart_SelectorsMatchThePods(t *testing.T) {
	t.Parallel()
	for name, values := range cases(t) {
		all := objects(t, values)
		selects := func(what string, selector map[string]string, of string, pods int) {
			matched := 0
			for _, d := range deployments(all) {
				for key, value := range selector {
					if d.Spec.Template.Labels[key] != value {
						goto next
					}
				}
				matched++
			next:
			}
			if matched != pods {
				t.Errorf("%s: %s %s selects %d kinds of pods, want %d", name, of, what, matched, pods)
			}
		}
		for _, o := range all {
			switch o := o.Object.(type) {
			case *apps.Deployment:
				selects(o.Name, o.Spec.Selector.MatchLabels, "Deployment", 1)
				for _, c := range o.Spec.Template.Spec.TopologySpreadConstraints {
					selects(o.Name, c.LabelSelector.MatchLabels, "spread of", 1)
				}
			case *core.Service:
				pods := 1
				if strings.HasSuffix(o.Name, "-metrics") {
					pods = 2
				}
				selects(o.Name, o.Spec.Selector, "Service", pods)
			case *disruption.PodDisruptionBudget:
				selects(o.Name, o.Spec.Selector.MatchLabels, "PodDisruptionBudget", 1)
			case *networking.NetworkPolicy:
				selects(o.Name, o.Spec.PodSelector.MatchLabels, "NetworkPolicy", 2)
			}
		}
	}
}

// The chart has the rules as a link: a checkout without links, as on Windows, has its
// path instead.
func TestChart_ContainsTheRules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("prometheus/rules.yaml")
	must(t, err)
	var want monitoring.PrometheusRuleSpec
	must(t, kyaml.UnmarshalStrict(text, &want))
	for _, o := range objects(t, cases(t)["monitored"]) {
		if rule, ok := o.Object.(*monitoring.PrometheusRule); ok && !reflect.DeepEqual(rule.Spec, want) {
			t.Errorf("the chart has the rules\n%v\nwant those of prometheus/rules.yaml\n%v", rule.Spec, want)
		}
	}
}
