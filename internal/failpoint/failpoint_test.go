package failpoint_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// TestReleaseBuild_HasNoFailpoints searches both programs: the names must be in the one
// with the tag, or the search proves nothing.
func TestReleaseBuild_HasNoFailpoints(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build fixture.Build
		want  bool
	}{ // as other tests build it, so that it is built once
		{"release", fixture.Build{CallbackPace: 400}, false},
		{"failpoint", fixture.Build{Failpoints: true, CallbackPace: 20}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program, err := os.ReadFile(fixture.ProgramFor(t, tt.build))
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
