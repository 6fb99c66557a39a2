package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kyclink/kyclink/internal/legible"
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
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usageError(cmd, wrongValue(wrong))
	}
	if bare, ok := errors.AsType[*pflag.ValueRequiredError](err); ok && bare.GetSpecifiedShortnames() == "" {
		return usageError(cmd, fmt.Errorf("--%s needs a value", bare.GetSpecifiedName()))
	}
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

// wrongValue says which values a flag takes. The errors of the flag types that are not this
// program's name Go functions.
func wrongValue(err *pflag.InvalidValueError) error {
	kind, known := map[string]string{
		"bool": "true or false", "duration": "a duration, such as 30s or 2h", "int": "a whole number",
	}[err.GetFlag().Value.Type()]
	if !known {
		return fmt.Errorf("--%s: %w", err.GetFlag().Name, err.Unwrap())
	}
	return fmt.Errorf("--%s is %q; use %s", err.GetFlag().Name, legible.Shorten(err.GetValue()), kind)
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
