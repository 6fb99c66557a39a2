package failpoint_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestReleaseBuild_HasNoFailpoints searches both programs: the names must be in the one
// with the tag, or the search proves nothing.
func TestReleaseBuild_HasNoFailpoints(t *testing.T) {
	for _, tt := range []struct {
		name string
		tags string
		want bool
	}{
		{"release", "", false},
		{"failpoint", "failpoint", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "kyclink")
			build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", tt.tags, "-o", file, "../../cmd/kyclink")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			program, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"KYCLINK_FAILPOINT", "internal/failpoint.Hit", "internal/failpoint.Watch", "internal/failpoint.at"} {
				if got := bytes.Contains(program, []byte(name)); got != tt.want {
					t.Errorf("the program has %q: %v, want %v", name, got, tt.want)
				}
			}
		})
	}
}
