package redistest

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

//go:embed shim/clock.c
var clockShim []byte

// Clock shifts the wall clock of one server process.
type Clock struct{ file *os.File }

// StartWithClock is [Start] for a server whose clock the test controls. It needs a C
// compiler, as the race detector does.
func StartWithClock(t testing.TB, args ...string) (*Server, *Clock) {
	t.Helper()
	s, c, err := LaunchWithClock(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	t.Cleanup(c.Close)
	return s, c
}

// LaunchWithClock is [StartWithClock] without a test. The caller closes both.
func LaunchWithClock(args ...string) (*Server, *Clock, error) {
	dir, err := os.MkdirTemp("", "redistest-clock-")
	if err != nil {
		return nil, nil, err
	}
	c, library, err := newClock(dir)
	if err != nil {
		return nil, nil, err
	}
	s, err := launch(func(s *Server, port int) error {
		s.env = append(os.Environ(), "LD_PRELOAD="+library, "REDISTEST_CLOCK="+c.file.Name())
		s.args = arguments(s.dir, port, args)
		return nil
	})
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return s, c, nil
}

func newClock(dir string) (*Clock, string, error) {
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, clockShim, 0o600); err != nil {
		return nil, "", err
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "gcc"
	}
	out, err := exec.Command(compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl").CombinedOutput()
	if err != nil {
		return nil, "", fmt.Errorf("compile the clock with %s: %w; install it with make test-needs\n%s", compiler, err, out)
	}
	file, err := os.Create(filepath.Join(dir, "offset"))
	if err != nil {
		return nil, "", err
	}
	c := &Clock{file}
	return c, library, c.Set(0)
}

// Set sets the offset of the server's clock from that of the machine.
func (c *Clock) Set(offset time.Duration) error {
	_, err := c.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset)), 0)
	return err
}

// Close removes the clock's files. The server keeps its current offset.
func (c *Clock) Close() {
	_ = c.file.Close()
	_ = os.RemoveAll(filepath.Dir(c.file.Name())) // a leftover temporary directory does no harm
}
