package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newHelp returns the help command. Unlike cobra's own, it fails for an unknown command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Show the help of a command",
		Long: `Show the help of a command, as its --help does. Without a command, list all commands by
their purpose.`,
		Example: "  kyclink help run\n  kyclink help batch export",
		Args:    usageArgs(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return usageError(cmd, err)
			case len(rest) > 0:
				return usageError(found, unknownCommand(found, rest[0]))
			}
			found.InitDefaultHelpFlag()    // which Execute adds to the command that runs only
			found.InitDefaultVersionFlag() // likewise
			return found.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range found.Commands() {
				if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begin) {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// unknownCommand returns the error of a name that no command below parent has, with
// similar names.
func unknownCommand(parent *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q", name)
	return errors.New(text + suggestion(parent, name, ""))
}

// flagError returns a usage error. That of an unknown flag has the names of similar ones.
func flagError(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return usageError(cmd, err)
	}
	flags := &cobra.Command{} // cobra compares names of commands
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags.AddCommand(&cobra.Command{Use: f.Name, RunE: showHelp})
		}
	})
	name := unknown.GetSpecifiedName()
	return usageError(cmd, fmt.Errorf("unknown flag --%s%s", name, suggestion(flags, name, "--")))
}

// suggestion returns the names of commands below parent that are similar to a name.
func suggestion(parent *cobra.Command, name, prefix string) string {
	parent.SuggestionsMinimumDistance = 2
	similar := parent.SuggestionsFor(name)
	if len(similar) == 0 {
		return ""
	}
	return "; did you mean " + prefix + strings.Join(similar, " or "+prefix) + "?"
}
