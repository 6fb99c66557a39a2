package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	scriptCommand   = regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)
	scriptLibraries = regexp.MustCompile(`(?m)^-- uses: (.*)$`)
	// ofData matches commands that the categories of docs/operations.md permit.
	ofData = regexp.MustCompile(`^(H|L|RPUSH|S(ADD|REM|ISMEMBER|RANDMEMBER|ET)|Z|X|GET|MSET|MGET|INCR)`)
)

// usedCommands are the commands of scripts and of the libraries that they use, each with a
// file that has it.
type usedCommands struct {
	root     string
	read     map[string]bool
	commands map[string]string
}

func (u usedCommands) add(t *testing.T, path string) {
	t.Helper()
	if u.read[path] {
		return
	}
	u.read[path] = true
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range scriptCommand.FindAllStringSubmatch(string(text), -1) {
		u.commands[strings.ToLower(m[1])] = path
	}
	m := scriptLibraries.FindStringSubmatch(string(text))
	if m == nil {
		return
	}
	for library := range strings.SplitSeq(m[1], ", ") {
		var found []string
		for _, dir := range []string{filepath.Dir(path), filepath.Join(u.root, "internal", "lua"), filepath.Join(u.root, "internal", "*")} {
			if len(found) == 0 {
				found, _ = filepath.Glob(filepath.Join(dir, library+".lua")) // the pattern is right
			}
		}
		if len(found) != 1 {
			t.Fatalf("%s uses %s, which is in %v", path, library, found)
		}
		u.add(t, found[0])
	}
}

// TestPermissions_IncludeTheCommandsOfScripts finds commands of rare cases, which the test
// that runs with the permissions does not reach.
func TestPermissions_IncludeTheCommandsOfScripts(t *testing.T) {
	t.Parallel()
	root := Root(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for user, patterns := range map[string][]string{
		"producer": {"tasks/*.lua", "internal/audit/append.lua"},
		"consumer": {"tasks/remove_idle_consumers.lua"},
		"serve":    {"tasks/*.lua", "internal/*/*.lua"},
		"worker":   {"tasks/*.lua", "internal/*/*.lua"},
	} {
		used := usedCommands{root, map[string]bool{}, map[string]string{}}
		for _, pattern := range patterns {
			found, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil || len(found) == 0 {
				t.Fatalf("there is no %s (%v)", pattern, err)
			}
			for _, path := range found {
				used.add(t, path)
			}
		}
		rule := strings.Fields(regexp.MustCompile(`(?m)^ACL SETUSER kyclink-` + user + ` .*$`).FindString(string(text)))
		byCategory := slices.Contains(rule, "+@hash")
		for command, path := range used.commands {
			permitted := byCategory && ofData.MatchString(strings.ToUpper(command)) ||
				slices.ContainsFunc(rule, func(word string) bool { return word == "+"+command || strings.HasPrefix(word, "+"+command+"|") })
			consumers := user == "producer" && filepath.Base(path) == "remove_idle_consumers.lua"
			if !permitted && !consumers {
				t.Errorf("kyclink-%s may not run %s, which is in %s", user, command, path)
			}
		}
	}
}
