package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// Names are not sent to Redis, but the export has them beside the links.
func TestBatchExport_JoinsTheImportedFile(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, `{"rules":[{"match":"F-*","fault":"code_5002"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	client := tasks.NewClient(server.Client(t), tasks.Config{})
	if _, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "JOINED", Lane: tasks.Bulk}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("Name;Application ID;redirect_url\n")
	b.WriteString("Zoë;A-1;https://shop.example/\nBob;JOINED;\nCid;A-1;https://shop.example/\n") // the third row has the ID of the first
	b.WriteString("Dan;A-1;https://other.example/\nEve;not an id;\n=1+1;F-1;\n")                 // a conflict, an invalid row and a failing row
	for range 250 {                                                                              // rejected rows, so that a whole chunk is missing
		b.WriteString("Nobody;;\n")
	}
	b.WriteString("@Last;=A-2;\n")
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "people.csv"), b.String())
	expect(2, "", "3 accepted", "import", file, "--batch", "spring", "--ignore-unknown", "--rejects", filepath.Join(dir, "rejects.csv"))
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "all have ended", func() bool { return strings.Contains(expect(0, "", "", "batch", "list"), "done") })

	out := filepath.Join(dir, "out.csv")
	expect(0, "", "4 created", "batch", "export", "spring", "--with", file, "-o", out)
	lines := strings.Split(strings.ReplaceAll(read(t, out), ";", ","), "\n")
	for row, want := range map[int][]string{
		0:   {"Name,Application ID,redirect_url,status,link_id,url,"},
		1:   {"Zoë,A-1,", ",created,", "https://simulator.invalid/"},
		2:   {"Bob,JOINED,", ",created,", "https://simulator.invalid/"},
		3:   {"Cid,A-1,", ",created,", "https://simulator.invalid/"},
		4:   {"Dan,A-1,", ",rejected,", "https://simulator.invalid/", "conflict: A-1 was requested before"},
		5:   {"Eve,not an id,", ",rejected,,,", "invalid: "},
		6:   {"=1+1,F-1,", ",failed,,,", "invalid_request"},
		7:   {"Nobody,,", ",rejected,,,", "invalid: "},
		257: {"@Last,=A-2,", ",created,", "https://simulator.invalid/"},
	} {
		for _, part := range want {
			if !strings.Contains(lines[row], part) {
				t.Errorf("row %d is %q, without %q", row, lines[row], part)
			}
		}
	}

	// The same file in another order, with one row that was never imported.
	moved := write(t, filepath.Join(dir, "moved.csv"), "Application ID,Name\nNEW,New\n=A-2,Last\nA-1,Zoë\n")
	stdout := expect(0, "", "1 row of "+moved+" (the first is row 1) is not in batch spring", "batch", "export", "spring", "--with", moved, "-o", "/dev/stdout")
	for _, part := range []string{"NEW,New,rejected,,,,", `has no row 1 with this id`, "=A-2,Last,created,", "A-1,Zoë,created,"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("without %q:\n%s", part, stdout)
		}
	}
	for _, c := range [][]string{{"--with", moved}, {}} {
		text := expect(0, "", "", append([]string{"batch", "export", "spring", "--spreadsheet"}, c...)...)
		if !strings.Contains(text, "'=A-2,") || strings.Contains(text, "\n=A-2") {
			t.Errorf("a cell could be a formula:\n%s", text)
		}
	}
	expect(64, "", "--format cannot be used with --with", "batch", "export", "spring", "--with", moved, "--format", "csv")
	expect(64, "", "omit -o", "batch", "export", "spring", "-o", "/dev/stderr")
	if left, err := filepath.Glob(filepath.Join(dir, ".kyclink*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// The file of rejects is corrected in place and imported.
func TestImport_AcceptsCorrectedRejects(t *testing.T) {
	t.Parallel()
	settings := []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL}
	expect := expecter(t, settings)
	dir := t.TempDir()
	for batch, c := range map[string]struct{ file, text, rejects, wrong, right string }{
		"csv":     {"in.csv", "Name;application_id;expiry_minutes\nÄnn;A-1;0\n=Bob;A-2;60\n", "Name;application_id;expiry_minutes;reason;message\nÄnn;A-1;0;invalid;expiry_minutes: must be at least 1\n", ";0;", ";60;"},
		"ndjson":  {"in.ndjson", `{"application_id":"B-1","expiry_minutes":0}` + "\n", `{"application_id":"B-1","expiry_minutes":0,"reason":"invalid","message":"expiry_minutes: must be at least 1"}` + "\n", ":0,", ":60,"},
		"formula": {"in.csv", "application_id,expiry_minutes,Name\n-C-1,0,\"=cmd\"\n", "application_id,expiry_minutes,Name,reason,message\n'-C-1,0,'=cmd,invalid,expiry_minutes: must be at least 1\n", ",0,", ",60,"},
	} {
		in, rejects := write(t, filepath.Join(dir, batch+c.file), c.text), filepath.Join(dir, "rejects-"+c.file)
		args := []string{"import", in, "--batch", batch, "--rejects", rejects, "--ignore-unknown"}
		if batch == "formula" {
			args = append(args, "--spreadsheet")
		}
		expect(2, "", "1 invalid", args...)
		if got := read(t, rejects); got != c.rejects {
			t.Errorf("%s: rejects are\n%s", batch, got)
		}
		if info, err := os.Stat(rejects); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", batch, info, err)
		}
		write(t, rejects, strings.Replace(read(t, rejects), c.wrong, c.right, 1))
		if batch == "formula" { // the escaped ID would be another ID
			expect(2, "", "begins with ' before a formula's sign, as --spreadsheet writes it; remove the '", "import", rejects, "--batch", batch, "--ignore-unknown")
			continue
		}
		expect(0, "", "1 row, 1 accepted", "import", rejects, "--batch", batch, "--ignore-unknown")
	}
}
