package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorded holds the bodies of the calls to an upstream.
type recorded struct {
	mu     sync.Mutex
	bodies []string
}

func (r *recorded) sent() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.bodies)
	return strings.Join(r.bodies, "\n")
}

// recordingUpstream starts an upstream that records the bodies of its calls.
func recordingUpstream(t *testing.T) (*recorded, string) {
	t.Helper()
	_, setting := upstream(t, `{}`)
	_, address, _ := strings.Cut(setting, "=")
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	seen := &recorded{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if bytes.Contains(body, []byte("KL-")) || bytes.Contains(body, []byte("E+12")) {
			seen.mu.Lock()
			seen.bodies = append(seen.bodies, string(body))
			seen.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return seen, "FACEKI_BASE_URL=" + server.URL
}

// Each file that users reported to fail is processed by run.
func TestRun_ReadsFilesThatUsersReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, out string
		args      []string
		code      int
		stderr    []string // parts of standard error
		sent      int      // number of calls; -1: at least one
		bodies    string   // part of every body
		file      []string // parts of OUT
	}{
		{name: "cp1252-to-ndjson", out: "o.ndjson", code: exitInput,
			stderr: []string{"row 1 at line 2, column full_name is not valid UTF-8", "--encoding windows-1250", "1 more such row"}},
		{name: "cp1252-to-ndjson", out: "o.ndjson", args: []string{"--encoding", "windows-1250"}, sent: 2,
			file: []string{`"full_name":"Zoë Quill"`, `"full_name":"Łukasz"`}},
		{name: "cp1252-to-ndjson", out: "o.csv", args: []string{"--encoding", "windows-1250"}, sent: 2, file: []string{"\ufeffapplication_id", "Łukasz,created"}},
		{name: "cr-only", out: "o.csv", sent: 3, stderr: []string{"columns used: application_id", `carried over: "full_name"`}, file: []string{"KL-0003,Cy Marsh,created"}},
		{name: "dup-different-person", out: "o.csv", sent: 1, stderr: []string{"row 2 has the same id as row 1, KL-0001, but differs in full_name"}},
		{name: "excel-bool", out: "o.csv", sent: 2, file: []string{"KL-0001,TRUE,created", "KL-0002,FALSE,created"}},
		{name: "gzip-trailing-garbage", out: "o.csv", sent: -1, file: []string{",created,"}},
		{name: "header-near-miss", out: "o.csv", sent: 2, bodies: "https://shop.example/done",
			stderr: []string{`redirect_url ("Redirect_URL")`, `expiry_minutes ("expiry minutes")`}},
		{name: "sci-notation", out: "o.csv", sent: 1, stderr: []string{
			"row 1 at line 2 (and 2 more rows like it): the ID 4.91702E+12 looks like a number that a spreadsheet has rounded",
			"row 2 has the same id as row 1", "row 3 has the same id as row 1"}},
		{name: "semicolon", out: "o.csv", sent: 2, bodies: "https://shop.example/done", stderr: []string{"separated by ';'"}, file: []string{"KL-0002;https://shop.example/done;Ömer Lund;created;"}},
		{name: "semicolon", out: "o.xlsx", sent: 2, bodies: "https://shop.example/done"},
		{name: "sep-line", out: "o.csv", sent: 2, bodies: "https://shop.example/done", file: []string{"sep=;\napplication_id;redirect_url;full_name;status;", "KL-0001;https://shop.example/done;Zoë Quill;created;"}},
		{name: "trailing-empty-columns", out: "o.csv", sent: 2, bodies: "https://shop.example/done",
			file: []string{"application_id,redirect_url,status,", "KL-0002,https://shop.example/done,created,"}},
		{name: "utf8-bom", out: "o.csv", sent: 2, bodies: "https://shop.example/done", file: []string{"\ufeffapplication_id,redirect_url,full_name,status,", "Zoë Quill,created"}},
	} {
		t.Run(fmt.Sprintf("%s to %s %v", c.name, c.out, c.args), func(t *testing.T) {
			t.Parallel()
			found, err := filepath.Glob(filepath.Join("testdata", "cases", c.name, "people.*"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			seen, setting := recordingUpstream(t)
			out := filepath.Join(t.TempDir(), c.out)
			code, _, stderr := kyclink(t, []string{setting}, append([]string{"run", found[0], "-o", out, "--simulate"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("no message contains %q", want)
				}
			}
			sent := strings.Fields(strings.ReplaceAll(seen.sent(), " ", ""))
			if n := len(sent); n != c.sent && (c.sent >= 0 || n == 0) {
				t.Errorf("%d calls, want %d", n, c.sent)
			}
			for _, body := range sent {
				if !strings.Contains(body, c.bodies) {
					t.Errorf("FaceKi was sent %s", body)
				}
			}
			for _, want := range c.file {
				if text := read(t, out); !strings.Contains(text, want) {
					t.Errorf("OUT holds %q, and not %q", text, want)
				}
			}
			if t.Failed() {
				t.Log(stderr)
			}
		})
	}
}

// The same files are processed by import.
func TestImport_ReadsFilesThatUsersReported(t *testing.T) {
	t.Parallel()
	settings := []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL}
	for i, c := range []struct {
		name   string
		args   []string
		code   int
		stderr []string
	}{
		{"cr-only", []string{"--ignore-unknown"}, 0, []string{"3 rows, 3 accepted", `ignored: "full_name"`}},
		{"cr-only", nil, exitInput, []string{`unknown columns "full_name"`}},
		{"excel-bool", nil, 0, []string{"2 rows, 2 accepted"}},
		{"header-near-miss", nil, 0, []string{"2 rows, 2 accepted", `redirect_url ("Redirect_URL")`}},
		{"gzip-trailing-garbage", []string{"--ignore-unknown"}, 0, []string{"accepted"}},
		{"sci-notation", []string{"--ignore-unknown"}, 0, []string{"3 rows, 1 accepted, 2 duplicates", "the ID 4.91702E+12 looks like a number"}},
		{"semicolon", []string{"--ignore-unknown"}, 0, []string{"2 rows, 2 accepted", "separated by ';'"}},
		{"sep-line", []string{"--ignore-unknown", "--delimiter", ";"}, 0, []string{"2 rows, 2 accepted", "separated by ';'"}},
		{"trailing-empty-columns", nil, 0, []string{"2 rows, 2 accepted"}},
		{"utf8-bom", []string{"--ignore-unknown"}, 0, []string{"2 rows, 2 accepted"}},
		{"cp1252-to-ndjson", []string{"--ignore-unknown"}, exitNotCreated, []string{"full_name: is not valid UTF-8"}},
		{"cp1252-to-ndjson", []string{"--ignore-unknown", "--encoding", "cp1250"}, 0, []string{"2 rows, 2 accepted"}},
	} {
		found, err := filepath.Glob(filepath.Join("testdata", "cases", c.name, "people.*"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		own := append(slices.Clone(settings), fmt.Sprintf("KYCLINK_ACCOUNT=case-%d", i))
		code, _, stderr := kyclink(t, own, append([]string{"import", found[0], "--batch", c.name}, c.args...)...)
		missing := slices.DeleteFunc(slices.Clone(c.stderr), func(want string) bool { return strings.Contains(stderr, want) })
		if code != c.code || len(missing) > 0 {
			t.Errorf("%s %v: exit code %d, want %d, with %q:\n%s", c.name, c.args, code, c.code, missing, stderr)
		}
	}
}

// An export, in every format, is imported into the same batch, which accepts no new row.
func TestImport_AcceptsNothingNewFromAnExport(t *testing.T) {
	t.Parallel()
	settings := []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL}
	dir := t.TempDir()
	in := write(t, filepath.Join(dir, "in.csv"), "application_id,expiry_minutes,document_optional,metadata\nA-1,60,yes,\"{\"\"a\"\":1}\"\nA-2,,,\n")
	if code, _, stderr := kyclink(t, settings, "import", in, "--batch", "spring"); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	for _, name := range []string{"out.csv", "out.ndjson.gz", "out.xlsx"} {
		out := filepath.Join(dir, name)
		if code, _, stderr := kyclink(t, settings, "batch", "export", "spring", "-o", out); code != 0 {
			t.Fatalf("%s: exit code %d:\n%s", name, code, stderr)
		}
		code, _, stderr := kyclink(t, settings, "import", out, "--batch", "spring")
		if code != 0 || !strings.Contains(stderr, "2 rows, 0 accepted, 2 accepted by this batch before") {
			t.Errorf("%s: exit code %d:\n%s", name, code, stderr)
		}
	}
	for name, args := range map[string][]string{
		"-o out.xls":    {"batch", "export", "spring", "-o", filepath.Join(dir, "out.xls")},
		"--format xlsx": {"batch", "export", "spring", "--format", "xlsx"},
		"run -o o.txt":  {"run", in, "-o", filepath.Join(dir, "o.txt"), "--simulate"},
		"--rejects":     {"import", in, "--batch", "spring", "--rejects", filepath.Join(dir, "r.xls")},
		"--encoding":    {"run", in, "-o", filepath.Join(dir, "o.csv"), "--encoding", "klingon", "--simulate"},
		"--delimiter":   {"run", in, "-o", filepath.Join(dir, "o.csv"), "--delimiter", "ab", "--simulate"},
		"--map":         {"run", in, "-o", filepath.Join(dir, "o.csv"), "--map", "colour=x", "--simulate"},
	} {
		if code, _, stderr := kyclink(t, settings, args...); code != exitUsage {
			t.Errorf("%s: exit code %d:\n%s", name, code, stderr)
		}
	}
	var columns []string
	for _, row := range table(t, filepath.Join(dir, "out.csv"))[:1] {
		columns = slices.Sorted(maps.Keys(row))
	}
	if !slices.Contains(columns, "status") {
		t.Errorf("the export has the columns %q", columns)
	}
}
