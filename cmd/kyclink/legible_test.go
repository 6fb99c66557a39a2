package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// Control and invisible characters in stored or given text are escaped on a terminal.
func TestTerminal_ShowsNoHiddenCharacters(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	const evil = "\u009b2J\u202egnp\u200b\u007f"
	rdb := server.Client(t)
	metadata, err := json.Marshal(map[string]string{"name": evil})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.NewClient(rdb, tasks.Config{}).Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Metadata: metadata}); err != nil {
		t.Fatal(err)
	}
	importBatch(t, rdb, "spring", 1)
	for _, write := range [][]any{ // as an older version may have stored it
		{"HSET", "{kyclink:default}:batches", "old\x1b[2J" + evil, 1}, {"HSET", "{kyclink:default}:batch:1", "name", "old\x1b[2J" + evil},
		{"XADD", "{kyclink:default}:audit", "*", "key", "k", "name", "shop\x1b[2J" + evil, "action", "links.request", "target", evil},
	} {
		if err := rdb.Do(t.Context(), write...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	csv := write(t, filepath.Join(dir, "people.csv"), "application_id,col"+evil+"\nB-1,x\n")
	lines := write(t, filepath.Join(dir, "people.ndjson"), `{"application_id":"B-1","col\u001b[2J`+evil+`\nforged":1}`+"\n"+`{"application_id":"B-1","col\u001b[2J`+evil+`\nforged":2}`+"\n")
	run := func(args ...string) (stdout string) {
		t.Helper()
		_, stdout, stderr := kyclink(t, settings, args...)
		if text := stdout + stderr; strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && legible.Hidden(c) }) {
			t.Errorf("%v prints %q", args, text)
		} else if strings.Contains(text, "\nforged") {
			t.Errorf("%v prints a forged line: %q", args, text)
		}
		return stdout
	}
	if text := run("show", "A-1"); !strings.Contains(text, `\u009b2J\u202egnp\u200b\u007f`) {
		t.Errorf("show prints\n%s", text)
	}
	var shown struct{ Metadata map[string]string }
	if err := json.Unmarshal([]byte(run("show", "A-1", "--json")), &shown); err != nil || shown.Metadata["name"] != evil {
		t.Errorf("%v: the JSON holds %q, want %q", err, shown.Metadata["name"], evil)
	}
	for _, args := range [][]string{
		{"batch", "list"}, {"batch", "list", "--json"}, {"batch", "status", "old\x1b[2J" + evil}, {"batch", "status", evil}, {"batch", "status", "old"},
		{"audit"}, {"audit", "--json"}, {"import", csv, "--batch", "b"}, {"import", lines, "--batch", "b"}, {"run", csv, "-o", filepath.Join(dir, evil), "--simulate"},
		{"run", lines, "-o", filepath.Join(dir, "links.csv"), "--simulate"},
		{"show", evil}, {"forget", evil, "--yes"}, {"import", filepath.Join(dir, "no\x1b[2J.csv"), "--batch", "b"}, {"request", "--lane", evil, "--application-id", "x"},
		{evil}, {"batch", evil}, {"results", "read"},
	} {
		run(args...)
	}
}

// An export to a pipe or file has the characters of the input unchanged.
func TestExport_KeepsHiddenCharacters(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	const odd = "\u202eZo\u200bë"
	people := write(t, filepath.Join(t.TempDir(), "people.csv"), "application_id,metadata\nA-1,\"{\"\"name\"\":\"\""+odd+"\"\"}\"\n")
	if code, _, stderr := kyclink(t, settings, "import", people, "--batch", "spring"); code != 0 {
		t.Fatal(stderr)
	}
	if _, stdout, stderr := kyclink(t, settings, "batch", "export", "spring"); !strings.Contains(stdout, odd) {
		t.Errorf("%s\n%s", stdout, stderr)
	}
}

func TestNames_WithHiddenCharactersAreEscaped(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	expect := expecter(t, []string{"KYCLINK_REDIS_URL=" + server.URL})
	people := peopleFile(t, 1)
	for _, name := range []string{"a\u202eb", "a\u200bb", "-spring", " spring", "a\u00a0b"} {
		expect(1, "", "batch: has a name that ", "import", people, "--batch="+name)
		expect(64, "", "use 1 to 64 printable characters", "keys", "create", "--scope", "read", "--name="+name)
		expect(64, "", "--group: the name ", "results", "read", "--group="+name)
	}
	expect(0, "", "", "import", people, "--batch", "Frühling 2026")
}
