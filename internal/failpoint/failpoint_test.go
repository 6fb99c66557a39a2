package failpoint_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// TestReleaseBuild_HasNoFailpoints also searches a program with the tag, to prove that the
// search finds the names.
func TestReleaseBuild_HasNoFailpoints(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build fixture.Build
		want  bool
	}{ // the options of other tests, to share their builds
		{"release", fixture.Build{CallbackPace: 400}, false},
		{"failpoint", fixture.Build{Failpoints: true, CallbackPace: 20}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program, err := os.ReadFile(fixture.ProgramFor(t, tt.build))
			if err != nil {
				t.Fatal(err)
			}
			// The empty Hit of off.go may be in the program: the compiler does not inline it everywhere.
			for _, name := range []string{"KYCLINK_FAILPOINT", "internal/failpoint.Watch", "internal/failpoint.action"} {
				if got := bytes.Contains(program, []byte(name)); got != tt.want {
					t.Errorf("program contains %q: got %v, want %v", name, got, tt.want)
				}
			}
		})
	}
}
