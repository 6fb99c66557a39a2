package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

func TestVersion_ShowsTheBuild(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := kyclink(t, nil, "version", "--json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); code != 0 || err != nil || b.Version == "" || b.Go != runtime.Version() || b.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	if _, text, _ := kyclink(t, nil, "version"); !strings.Contains(text, "version   "+b.Version+"\n") || !strings.Contains(text, b.Platform) {
		t.Errorf("it prints\n%s", text)
	}
}

func TestHelp_GroupsCommandsAndBeginsWithRun(t *testing.T) {
	t.Parallel()
	_, help, _ := kyclink(t, nil, "--help")
	at := -1
	for _, want := range []string{"Do the job:\n  run ", "Watch:\n", "Repair:\n", "Operate:\n", "  completion ", "Integrate:\n"} {
		i := strings.Index(help, want)
		if i <= at {
			t.Errorf("%q is not there, or not in this order:\n%s", want, help)
		}
		at = i
	}
}

func TestUnknownCommand_NamesSimilarOnes(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{"rum": "did you mean run?", "batch exprot": "did you mean export?", "worker now": `unexpected argument "now"`} {
		if code, _, stderr := kyclink(t, nil, strings.Fields(command)...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s", command, code, stderr)
		}
	}
}

func TestRenamedFlags_KeepTheirFormerNames(t *testing.T) {
	t.Parallel()
	root := newRoot()
	for command, former := range map[string]string{"failed list": "aside", "results replay": "anew"} {
		cmd, _, err := root.Find(strings.Fields(command))
		if err != nil {
			t.Fatal(err)
		}
		if f := cmd.Flags().Lookup(former); f == nil || !f.Hidden {
			t.Errorf("%s --%s is not a hidden flag", command, former)
		}
	}
}
