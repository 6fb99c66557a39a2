package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// An empty value, as a shell makes of an unset variable, is refused for every flag and
// argument.
func TestCommands_RefuseEmptyArguments(t *testing.T) {
	t.Parallel()
	var commands func(of *cobra.Command) []*cobra.Command
	commands = func(of *cobra.Command) []*cobra.Command {
		all := []*cobra.Command{of}
		for _, sub := range of.Commands() {
			all = append(all, commands(sub)...)
		}
		return all
	}
	refused := func(want string, path string, args ...string) {
		t.Helper()
		root := newRoot()
		root.SetArgs(append(strings.Fields(path)[1:], args...))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a command that accepts it may run for ever
		defer cancel()
		var code *codeError
		err := root.ExecuteContext(ctx)
		if !errors.As(err, &code) || code.code != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %q: %v, want a usage error with %q", path, args, err, want)
		}
	}
	flags := 0
	for _, cmd := range commands(newRoot()) {
		var args []string
		if cmd.Args(cmd, args) != nil {
			args = []string{"x"}
		}
		if cmd.Args(cmd, []string{"x"}) == nil {
			refused("is empty", cmd.CommandPath(), "")
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Value.Type(), "string") {
				flags++
				refused("--"+f.Name+" is empty", cmd.CommandPath(), slices.Concat(args, []string{"--" + f.Name, ""})...)
			}
		})
	}
	if flags < 50 {
		t.Errorf("only %d flags were checked", flags)
	}
	refused("--id is empty", "kyclink results replay", "--id", "A-1001", "--id", "")
	refused("", "kyclink keys create", "--name", "shop", "--scope", "read,")
}
