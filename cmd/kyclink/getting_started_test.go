package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/doctest"
	"github.com/kyclink/kyclink/internal/fixture"
)

// TestGettingStarted_PrintsWhatThePageShows runs the commands of docs/getting-started.md
// in order and compares their output with the page.
func TestGettingStarted_PrintsWhatThePageShows(t *testing.T) {
	t.Parallel()
	var page doctest.Page
	for _, p := range doctest.Pages(t) {
		if p.Path == "docs/getting-started.md" {
			page = p
		}
	}
	s := session{dir: t.TempDir(), env: []string{"PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH"), "KYCLINK_OPS_LISTEN=127.0.0.1:0"}}
	text, consoles := page.Text, 0
	for _, code := range page.Code() {
		switch {
		case code.Language == "console":
			consoles++
			if printed := s.console(t, code.Text); normalised(printed) != normalised(code.Text) {
				text = strings.Replace(text, code.Text, printed, 1)
				t.Logf("the page shows\n%s\nthe commands print\n%s", code.Text, printed)
			}
		case strings.Contains(code.Text, "redis-server"):
			s.env = append(s.env, "KYCLINK_REDIS_URL="+newRedis(t).URL)
			worker := prepare(t, binary, nil, "worker", "--simulate")
			worker.cmd.Env = s.env
			worker.begin()
			fixture.Eventually(t, "the worker starts", func() bool { return strings.Contains(worker.stderr.String(), "worker started") })
		case code.Language == "sh" && !strings.Contains(code.Text, "make build"):
			s.run(t, code.Text)
		}
	}
	if consoles < 3 {
		t.Errorf("the page has %d sessions only", consoles)
	}
	doctest.Generated(t, page.Path, text)
}

// session runs command lines in a shell with an environment.
type session struct {
	dir  string
	env  []string
	code int // of the last command
}

// console runs the commands of a block and returns the block with their output.
func (s *session) console(t *testing.T, block string) string {
	t.Helper()
	var printed strings.Builder
	for line := range strings.SplitSeq(block, "\n") {
		command, ok := strings.CutPrefix(line, "$ ")
		switch {
		case !ok:
		case command == "echo $?":
			printed.WriteString(line + "\n" + strconv.Itoa(s.code) + "\n")
		default:
			printed.WriteString(line + "\n" + s.run(t, command))
		}
	}
	return printed.String()
}

func (s *session) run(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	s.code = cmd.ProcessState.ExitCode()
	return string(out)
}

// normalised removes the parts of an output that differ between runs.
func normalised(text string) string {
	for _, differs := range []string{
		`(?m)^kyclink: (batch "\w+" is|\d+ of \d+ done).*\n`, // progress, as long as it takes
		`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`,
		`\d{4}-\d\d-\d\dT[0-9:.]+Z`,
		`\d+\.\d/s`,
		`created after (less than )?[0-9.]+m?s`,
		`, cap [0-9,]+`, // known once a worker has trimmed the stream
	} {
		text = regexp.MustCompile(differs).ReplaceAllString(text, "")
	}
	return text
}
