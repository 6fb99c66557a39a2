package main

import (
	"errors"
	"strings"
	"testing"
)

func TestCommands_ExplainTypingErrors(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"help nonsense", "unknown command \"nonsense\"\nSee kyclink --help"},
		{"help bathc", "unknown command \"bathc\"; did you mean batch?\nSee kyclink --help"},
		{"help batch exprot spring", "unknown command \"exprot\"; did you mean export?\nSee kyclink batch --help"},
		{"worker --simulate=maybe", "--simulate is \"maybe\"; use true or false\nSee kyclink worker --help"},
		{"run people.csv -o out.csv --patience soon", "--patience is \"soon\"; use a duration, such as 30s or 2h\nSee kyclink run --help"},
		{"request --application-id A-1 --wait=soon", "--wait is \"soon\"; use a duration, such as 30s or 2h\nSee kyclink request --help"},
		{"simulator --listen", "--listen needs a value\nSee kyclink simulator --help"},
		{"run people.csv --simulte", "unknown flag --simulte; did you mean --simulate?\nSee kyclink run --help"},
		{"batch status spring 2026", "unexpected argument \"2026\"; give only a batch's name, in quotes if it contains spaces\nSee kyclink batch status --help"},
		{"completion bahs", "unknown command \"bahs\"; did you mean bash?\nSee kyclink completion --help"},
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(tt.args))
		err := root.ExecuteContext(t.Context())
		if code := new(codeError); !errors.As(err, &code) || code.code != exitUsage || err.Error() != tt.want {
			t.Errorf("%s: %v, want a usage error: %s", tt.args, err, tt.want)
		}
	}
}

func TestHelp_ShowsTheHelpOfACommand(t *testing.T) {
	for args, want := range map[string]string{
		"help":              "Do the job:",
		"help batch export": "kyclink batch export NAME [flags]",
		"help help":         "kyclink help [COMMAND]...",
		"help completion":   "Generate the autocompletion script",
	} {
		var out strings.Builder
		root := newRoot()
		root.SetOut(&out)
		root.SetArgs(strings.Fields(args))
		if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, want %q in:\n%s", args, err, want, out.String())
		}
	}
}
