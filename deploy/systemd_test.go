package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// units returns the files of the units by the name of an instance.
func units() map[string]string {
	return map[string]string{"kyclink-worker@1.service": "kyclink-worker@.service", "kyclink-serve.service": "kyclink-serve.service"}
}

func TestUnits_AreValidAndHardened(t *testing.T) {
	t.Parallel()
	for name, file := range units() {
		unit, err := os.ReadFile(filepath.Join("systemd", file))
		must(t, err)
		copied := expectValidUnit(t, name, string(unit))
		if out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=15", copied).CombinedOutput(); err != nil {
			t.Errorf("%s: systemd-analyze security: its exposure is above 1.5: %v\n%s", file, err, out)
		}
	}
}

// expectValidUnit fails for a unit of which systemd does not understand everything. It
// returns the file with the unit.
func expectValidUnit(t *testing.T, name, unit string) string {
	t.Helper()
	path, err := filepath.Abs(program) // verify wants the program where the unit names it
	must(t, err)
	copied := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(copied, []byte(strings.Replace(unit, "/usr/bin/kyclink", path, 1)), 0o600))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", copied).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: systemd-analyze verify: %v\n%s", name, err, out)
	}
	return copied
}

// TestUnits_EnvironmentsStartTheProgram starts the units' processes with files in place of
// their credentials and of the example of the settings.
func TestUnits_EnvironmentsStartTheProgram(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("systemd/settings.example")
	must(t, err)
	assignment := regexp.MustCompile(`(?m)^([A-Z_]+)=(.+)$`)
	for name, file := range units() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(filepath.Join("systemd", file))
			must(t, err)
			unit, credentials, env := string(content), t.TempDir(), map[string]string{}
			known := map[string]string{
				"redis-url": "redis://" + startRedis(t, "save ''") + "/0", "faceki-client-id": "invented-id", "faceki-client-secret": "invented-secret",
			}
			for _, m := range regexp.MustCompile(`(?m)^LoadCredential=(.+):/etc/kyclink/(.+)$`).FindAllStringSubmatch(unit, -1) {
				must(t, os.WriteFile(filepath.Join(credentials, m[1]), []byte(known[m[2]]), 0o600))
			}
			for _, m := range regexp.MustCompile(`(?m)^Environment=([A-Z_]+)=(.+)$`).FindAllStringSubmatch(unit, -1) {
				env[m[1]] = strings.NewReplacer("%d", credentials, "%i", "1").Replace(m[2])
			}
			for _, m := range assignment.FindAllStringSubmatch(string(example), -1) {
				env[m[1]] = m[2]
			}
			start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/kyclink (.+)$`).FindStringSubmatch(unit)
			process{strings.Fields(start[1]), env}.expectReady(t, "/readyz")
		})
	}
}
