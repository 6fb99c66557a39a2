package deploy

import (
	"bufio"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

const redisPassword = "invented-password"

// project loads the compose file with the variables of an .env file and profiles.
func project(t *testing.T, env map[string]string, profiles ...string) (*types.Project, error) {
	t.Helper()
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{"compose.yaml"}, cli.WithEnv(lines), cli.WithProfiles(profiles))
	must(t, err)
	return options.LoadProject(t.Context())
}

func dotEnv() map[string]string {
	return map[string]string{"REDIS_PASSWORD": redisPassword, "FACEKI_CLIENT_ID": "invented-id", "FACEKI_CLIENT_SECRET": "invented-secret", "FACEKI_RATE": "20/s"}
}

func TestCompose_ProfilesStartTheirServices(t *testing.T) {
	t.Parallel()
	always := []string{"redis", "serve", "worker"}
	for _, c := range []struct{ profiles, more []string }{
		{nil, nil},
		{[]string{"try"}, []string{"simulated-worker", "simulator"}},
		{[]string{"watch"}, []string{"grafana", "prometheus"}},
		{[]string{"try", "watch"}, []string{"grafana", "prometheus", "simulated-worker", "simulator"}},
	} {
		p, err := project(t, dotEnv(), c.profiles...)
		must(t, err)
		want := append(slices.Clone(always), c.more...)
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
			t.Errorf("profiles %v start %v, want %v", c.profiles, got, want)
		}
	}
}

func TestCompose_ImagesHaveAVersion(t *testing.T) {
	t.Parallel()
	p, err := project(t, dotEnv(), "try", "watch")
	must(t, err)
	pinned := regexp.MustCompile(`^[a-z/]+:v?[0-9]+\.[0-9]+\.[0-9]+(-alpine)?$`)
	for name, s := range p.Services {
		if s.Build == nil && !pinned.MatchString(s.Image) {
			t.Errorf("%s has the image %s, whose version is not fixed", name, s.Image)
		}
	}
}

func TestCompose_IsRefusedWithoutAPasswordOfRedis(t *testing.T) {
	t.Parallel()
	_, err := project(t, nil)
	const want = "REDIS_PASSWORD is missing a value: is missing; copy .env.example to .env and set it"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without REDIS_PASSWORD, the error is\n%v\nwant\n%s", err, want)
	}
}

// TestCompose_EnvironmentsStartTheProgram starts every process of kyclink with a Redis
// that has the configuration of the compose file.
func TestCompose_EnvironmentsStartTheProgram(t *testing.T) {
	t.Parallel()
	p, err := project(t, dotEnv(), "try")
	must(t, err)
	for _, name := range []string{"worker", "serve", "simulated-worker"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := p.Services[name]
			env := resolved(s)
			redis := startRedis(t, p.Configs["redis"].Content)
			env["KYCLINK_REDIS_URL"] = strings.Replace(env["KYCLINK_REDIS_URL"], "@redis:6379/", "@"+redis+"/", 1)
			process{s.Command, env}.expectReady(t, "/readyz", func(address string) {
				_, port, _ := net.SplitHostPort(address)
				expectHealthy(t, s, "KYCLINK_OPS_LISTEN=:"+port)
			})
		})
	}
}

func TestCompose_SimulatorIsHealthy(t *testing.T) {
	t.Parallel()
	p, err := project(t, dotEnv(), "try")
	must(t, err)
	s := p.Services["simulator"]
	replace := func(args []string, address string) []string {
		for i, arg := range args {
			args[i] = strings.NewReplacer("0.0.0.0:8888", address, "127.0.0.1:8888", address).Replace(arg)
		}
		return args
	}
	cmd := process{replace(s.Command, "127.0.0.1:0"), nil}.command(t)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		must(t, cmd.Wait())
	}()
	url, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	s.HealthCheck.Test = replace(s.HealthCheck.Test, strings.TrimPrefix(strings.TrimSpace(url), "http://"))
	expectHealthy(t, s)
}

// A worker without its Redis cannot record the links of its calls in flight: when Redis is
// replaced, what uses it is stopped first.
func TestCompose_ProcessesStopBeforeTheirRedisIsReplaced(t *testing.T) {
	t.Parallel()
	p, err := project(t, dotEnv(), "try")
	must(t, err)
	for _, name := range []string{"worker", "serve", "simulated-worker"} {
		if !p.Services[name].DependsOn["redis"].Restart {
			t.Errorf("%s goes on without its Redis", name)
		}
	}
}

// expectHealthy runs the health check of a service's container with more variables.
func expectHealthy(t *testing.T, s types.ServiceConfig, env ...string) {
	t.Helper()
	check := process{s.HealthCheck.Test[2:], nil}.command(t)
	check.Env = append(check.Env, env...)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the health check of %s: %v\n%s", s.Name, err, out)
	}
}

// resolved returns the variables that a service's container gets: those without a value
// are not set.
func resolved(s types.ServiceConfig) map[string]string {
	env := map[string]string{}
	for name, value := range s.Environment {
		if value != nil {
			env[name] = *value
		}
	}
	return env
}

func TestCompose_ServicesAreConfined(t *testing.T) {
	t.Parallel()
	p, err := project(t, dotEnv(), "try", "watch")
	must(t, err)
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("port %s of %s is reached from other hosts", port.Published, name)
			}
		}
		if s.Build == nil {
			continue
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
		if s.HealthCheck == nil || !slices.Equal(s.HealthCheck.Test[:3], []string{"CMD", "/kyclink", "health"}) {
			t.Errorf("the health of %s is not checked by kyclink health", name)
		}
		if grace := s.StopGracePeriod; strings.HasSuffix(name, "worker") && (grace == nil || time.Duration(*grace) < 75*time.Second) {
			t.Errorf("%s is killed after %v; a call may take 60 s", name, grace)
		}
	}
	if listen := resolved(p.Services["serve"])["KYCLINK_LISTEN"]; listen != ":8080" {
		t.Errorf("serve listens at %q, which is not reached from outside its container", listen)
	}
}

// Every variable of the example is one that the compose file or kyclink reads.
func TestCompose_ExampleNamesVariablesThatAreRead(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(".env.example")
	must(t, err)
	file, err := os.ReadFile("compose.yaml")
	must(t, err)
	for _, m := range regexp.MustCompile(`(?m)^#?([A-Z_]+)=`).FindAllStringSubmatch(string(example), -1) {
		if read := regexp.MustCompile(`\$\{` + m[1] + `\b|(?m)^ +` + m[1] + `:$`); !read.Match(file) {
			t.Errorf("compose.yaml does not read %s of .env.example", m[1])
		}
	}
}

// Prometheus and Grafana read what is in the folders that the compose file mounts.
func TestCompose_ProvisioningLeadsToFilesThatExist(t *testing.T) {
	t.Parallel()
	p, err := project(t, dotEnv(), "watch")
	must(t, err)
	for _, name := range []string{"prometheus", "grafana"} {
		for _, v := range p.Services[name].Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, file := range []string{"datasources/prometheus.yaml", "dashboards/kyclink.yaml"} {
		content, err := os.ReadFile(filepath.Join("grafana", "provisioning", file))
		must(t, err)
		must(t, yaml.UnmarshalStrict(content, &map[string]any{}))
	}
	if out, err := exec.Command("promtool", "check", "config", "prometheus/prometheus.yml").CombinedOutput(); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
}
