package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// TestOutside_ModuleRunsItsOwnWorker builds a module that imports tasks and worker
// from outside, and runs it with a real Redis.
func TestOutside_ModuleRunsItsOwnWorker(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	fixture.Must(t, err)
	dir := t.TempDir()
	fixture.Must(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "outside"))))
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	fixture.Must(t, err)
	fixture.Must(t, os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600))
	server := redistest.Start(t)
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		// Nothing is fetched: it needs what this module needs.
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOWORK=off", "REDIS="+server.Addr)
		return cmd
	}
	run := func(cmd *exec.Cmd) string {
		t.Helper()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
		}
		return string(out)
	}
	run(command("go", "mod", "edit", "-replace=github.com/kyclink/kyclink="+root))
	program := filepath.Join(dir, "outside")
	fixture.Must(t, fixture.Compile(command("go", "build", "-o", program, ".")))
	const want = "link.created A-1 https://links.example/A-1/1?back=https://shop.example/done 2\n"
	if got := run(command(program)); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}
