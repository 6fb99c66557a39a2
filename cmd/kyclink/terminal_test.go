package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"

	"github.com/kyclink/kyclink/internal/fixture"
)

var updateGolden = flag.Bool("update-json", false, "write testdata/json.golden")

// onScreen runs kyclink on a terminal of 80 columns until it ends, and returns what the
// terminal got.
func onScreen(t testing.TB, settings []string, args ...string) (code int, screen string) {
	t.Helper()
	p, complete := startOnScreen(t, settings, args...)
	code = p.exit()
	<-complete
	return code, strings.ReplaceAll(p.stdout.String(), "\r\n", "\n")
}

// startOnScreen starts kyclink on a terminal of 80 columns. What the terminal gets is the
// standard output of the process, whose end is reported by complete.
func startOnScreen(t testing.TB, settings []string, args ...string) (p *process, complete <-chan struct{}) {
	t.Helper()
	master, slave := pseudoTerminal(t)
	p = prepare(t, binary, slices.Concat([]string{"TERM=xterm"}, settings), args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.begin()
	fixture.Must(t, slave.Close())
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&p.stdout, master) // it ends with an error when no process has the terminal
	}()
	return p, read
}

// pseudoTerminal returns both ends of a terminal of 80 columns.
func pseudoTerminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	fixture.Must(t, err)
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	fixture.Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	fixture.Must(t, err)
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	fixture.Must(t, err)
	fixture.Must(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	return master, slave
}

// populated returns the settings of an account with some of everything that is listed.
func populated(t *testing.T) []string {
	t.Helper()
	_, setting := upstream(t, `{"rules":[{"match":"F-*","fault":"code_5002"},{"match":"H-*","fault":"no_url"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + newRedis(t).URL}
	expect := expecter(t, settings)
	worker := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "the worker starts", func() bool { return strings.Contains(worker.stderr.String(), "worker started") })
	expect(0, "https://", "", "request", "--application-id", "A-1", "--wait=60s", "--metadata", `{"customer":"42"}`)
	expect(2, "", "F-1 is failed", "request", "--application-id", "F-1", "--wait=60s")
	expect(2, "", "H-1 is held", "request", "--application-id", "H-1", "--wait=60s")
	worker.signal(unix.SIGTERM)
	if code := worker.exit(); code != 0 {
		t.Fatalf("the worker ends with %d:\n%s", code, worker.stderr.String())
	}
	expect(0, "A-2 queued", "", "request", "--application-id", "A-2")
	people := write(t, filepath.Join(t.TempDir(), "people.csv"), "application_id\nB-1\nB-2\n")
	expect(0, "", "2 accepted", "import", people, "--batch", "spring")
	expect(0, "", "", "batch", "pause", "spring")
	expect(0, "", "", "account", "rate", "7/s")
	expect(0, "", "", "keys", "create", "--name", "shop", "--scope", "read")
	return settings
}

// Scripts depend on the JSON, which is the same on a terminal and in a pipe.
func TestJSON_MatchesGoldenFileEverywhere(t *testing.T) {
	t.Parallel()
	settings := populated(t)
	var all strings.Builder
	for _, args := range [][]string{
		{"status"}, {"show", "A-1"}, {"show", "A-2"}, {"show", "H-1"}, {"batch", "list"}, {"batch", "status", "spring"}, {"batch", "check", "spring"},
		{"account", "status"}, {"account", "rate"}, {"keys", "list"}, {"audit"}, {"results", "groups"}, {"results", "lag"},
		{"failed", "list"}, {"held", "list"}, {"callbacks", "list"}, {"request", "--application-id", "A-2"},
	} {
		args = append(args, "--json")
		code, piped, _ := kyclink(t, settings, args...)
		printed := "$ kyclink " + strings.Join(args, " ") + "\n" + stable(piped) + "exit code " + strconv.Itoa(code) + "\n"
		all.WriteString(printed)
		if args[0] == "request" || args[0] == "audit" || args[0] == "results" { // these change the account, or write to stderr as well
			continue
		}
		if code2, screen := onScreen(t, settings, args...); code2 != code || stable(screen) != stable(piped) {
			t.Errorf("kyclink %s prints on a terminal, with code %d:\n%s\nin a pipe, with code %d:\n%s", strings.Join(args, " "), code2, screen, code, piped)
		}
	}
	golden := filepath.Join("testdata", "json.golden")
	if *updateGolden {
		fixture.Must(t, os.WriteFile(golden, []byte(all.String()), 0o600))
	}
	if want := read(t, golden); all.String() != want {
		t.Errorf("the JSON differs from %s, on which scripts depend; go test ./cmd/kyclink -run TestJSON -update-json writes it. Got\n%s", golden, all.String())
	}
}

// stable replaces what differs from one run to the next.
func stable(text string) string {
	for _, r := range []struct{ pattern, with string }{
		{`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`, "UUID"},
		{`\d{4}-\d\d-\d\dT[0-9:.]+Z`, "TIME"},
		{`"(key|id|target)":"[0-9a-f]{12}"`, `"$1":"KEY"`},
		{`"by":"[^"]*"`, `"by":"USER"`},
		{`"used":[0-9.]+`, `"used":N`},
		{`"(throughput|behind_seconds|age_seconds|duration_ms)":[0-9.e-]+`, `"$1":N`},
		{`"cap":\d+`, `"cap":N`}, // 0 until a worker has trimmed the stream
		{`"(message|text|next)":"(\\.|[^"\\])*"`, `"$1":"TEXT"`},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return text
}

// Everything that is printed for people fits a terminal of 80 columns, but for a word that is
// longer. Colours are on terminals only, and NO_COLOR and a dumb terminal have none.
func TestCommands_FitATerminalAndUseColoursOnlyThere(t *testing.T) {
	t.Parallel()
	settings := populated(t)
	escape := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for _, args := range [][]string{
		{"status"}, {"show", "A-2"}, {"show", "H-1"}, {"show", "F-1"}, {"batch", "list"}, {"batch", "status", "spring"}, {"batch", "check", "spring"},
		{"account", "status"}, {"keys", "list"}, {"results", "groups"}, {"failed", "list"}, {"held", "list"}, {"callbacks", "list"}, {"version"},
	} {
		_, screen := onScreen(t, settings, args...)
		plain := escape.ReplaceAllString(screen, "")
		for line := range strings.SplitSeq(plain, "\n") {
			if n := runewidth.StringWidth(line); n > 80 {
				t.Errorf("kyclink %s prints a line of %d columns: %q", strings.Join(args, " "), n, line)
			}
		}
		if strings.Contains(plain, "\x1b") {
			t.Errorf("kyclink %s prints %q", strings.Join(args, " "), plain)
		}
		if _, piped, _ := kyclink(t, settings, args...); strings.Contains(piped, "\x1b") || strings.Contains(piped, "…") {
			t.Errorf("kyclink %s prints in a pipe %q", strings.Join(args, " "), piped)
		}
	}
	for _, setting := range []string{"NO_COLOR=1", "TERM=dumb", "TERM=xterm"} {
		_, screen := onScreen(t, append([]string{setting}, settings...), "status")
		if coloured := escape.MatchString(screen); coloured != (setting == "TERM=xterm") {
			t.Errorf("with %s, status prints %q", setting, screen)
		}
		if !strings.Contains(escape.ReplaceAllString(screen, ""), "stuck: No worker is running") {
			t.Errorf("with %s, status prints %q", setting, screen)
		}
	}
}

// On a terminal status --watch draws in place; in a pipe it prints a line at a change.
func TestStatusWatch_DrawsInPlaceOnlyOnATerminal(t *testing.T) {
	t.Parallel()
	settings := []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL}
	expect := expecter(t, settings)
	screen, complete := startOnScreen(t, settings, "status", "--watch")
	piped := start(t, settings, "status", "--watch")
	for _, text := range []string{"idle: ", "stuck: "} {
		fixture.Eventually(t, "both show "+text, func() bool {
			return strings.Contains(screen.stdout.String(), text) && strings.Contains(piped.stdout.String(), text)
		})
		if text == "idle: " {
			expect(0, "queued", "", "request", "--application-id", "A-1")
		}
	}
	for _, p := range []*process{screen, piped} {
		p.signal(unix.SIGINT)
		if code := p.exit(); code != 130 {
			t.Errorf("exit code %d", code)
		}
	}
	<-complete
	if text := screen.stdout.String(); !strings.Contains(text, "A\r\x1b[J") {
		t.Errorf("the terminal got %q", text)
	}
	// On a busy machine a read of the account may take too long. It is followed by the diagnosis.
	lines := strings.Split(strings.TrimSpace(piped.stdout.String()), "\n")
	lines = slices.CompactFunc(slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "Z the account cannot be read: ") }), func(a, b string) bool {
		_, a, _ = strings.Cut(a, "Z ")
		_, b, _ = strings.Cut(b, "Z ")
		return a == b
	})
	if len(lines) != 2 || !strings.HasSuffix(lines[1], `Z stuck: No worker is running for account "default"; 1 request waits. What to do: start one: kyclink worker.`) {
		t.Errorf("the pipe got %q", lines)
	}
}

// batch watch says what prevents links, once, and what to do.
func TestBatchWatch_SaysWhyNoLinkIsCreated(t *testing.T) {
	t.Parallel()
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + newRedis(t).URL}
	expect := expecter(t, settings)
	people := write(t, filepath.Join(t.TempDir(), "people.csv"), "application_id\nB-1\nB-2\n")
	expect(0, "", "2 accepted", "import", people, "--batch", "spring")
	screen, complete := startOnScreen(t, settings, "batch", "watch", "spring")
	piped := start(t, settings, "batch", "watch", "spring")
	said := `kyclink: batch "spring" is stuck: No worker is running`
	fixture.Eventually(t, "both say why", func() bool {
		return strings.Contains(screen.stdout.String(), said) && strings.Contains(screen.stdout.String(), "0 %  stuck: no worker") && strings.Contains(piped.stderr.String(), said)
	})
	start(t, settings, "worker", "--simulate")
	for _, p := range []*process{screen, piped} {
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, p.stderr.String())
		}
	}
	<-complete
	if n := strings.Count(piped.stderr.String(), said); n != 1 || !strings.Contains(piped.stderr.String(), "What to do: start one: kyclink worker.\n") {
		t.Errorf("it says %d times why:\n%s", n, piped.stderr.String())
	}
	if text := screen.stdout.String(); !strings.Contains(text, "] 100 %") || !strings.Contains(text, "kyclink batch export") {
		t.Errorf("the terminal got %q", text)
	}
}
