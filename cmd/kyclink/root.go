package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/logging"
)

// The groups of commands in the root's help.
const (
	groupJob       = "job"
	groupWatch     = "watch"
	groupRepair    = "repair"
	groupOperate   = "operate"
	groupIntegrate = "integrate"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "kyclink",
		Short: "Create KYC links through FaceKi",
		Long: `kyclink creates personal KYC links through FaceKi's API, which limits the rate of calls
and sometimes fails: for a file of people, or for one person at a time.

Settings are environment variables; docs/settings.md lists them. A trial needs none:

  kyclink dev
  kyclink run FILE -o OUT --simulate`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommandOnly,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if name := emptyFlag(cmd); name != "" {
				return usageError(cmd, fmt.Errorf("--%s is empty; give it a value, or omit it", name))
			}
			return nil
		},
		RunE: showHelp,
	}
	// Control characters in the data of others are printed escaped, and have no effect.
	root.SetOut(legible.NewWriter(os.Stdout))
	root.SetErr(legible.NewWriter(os.Stderr))
	root.SetFlagErrorFunc(flagError)
	addGroup(root, groupJob, "Do the job:", newRun(), newImport(), newBatch(), newRequest(), newWorker())
	addGroup(root, groupWatch, "Watch:", newStatus(), newShow(), newAccount(), newAudit())
	addGroup(root, groupRepair, "Repair:", newFailed(), newHeld(), newCallbacks(), newActions())
	addGroup(root, groupOperate, "Operate:", newForget(), newKeys(), newHealth(), newVersion())
	addGroup(root, groupIntegrate, "Integrate:", newServe(), newResults(), newDev(), newSimulator())
	// A command that only groups subcommands is not used without one.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID(groupOperate)
	root.SetCompletionCommandGroupID(groupOperate)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // cobra's shows its help for any argument
			cmd.Args, cmd.RunE = subcommandOnly, showHelp
		}
	}
	checkArgs(root)
	return root
}

func addGroup(root *cobra.Command, id, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = id
		root.AddCommand(cmd)
	}
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// checkArgs makes wrong arguments of a command and its subcommands a usage error.
func checkArgs(cmd *cobra.Command) {
	cmd.Args = usageArgs(cmd.Args)
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

// usageError returns an error of the command line, which refers to the command's help.
func usageError(cmd *cobra.Command, err error) error {
	return &codeError{exitUsage, fmt.Errorf("%w\nSee %s --help", err, cmd.CommandPath())}
}

// usageArgs makes the errors of check usage errors, and refuses empty arguments.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil && slices.Contains(args, "") {
			err = errors.New("an argument is empty")
		}
		if err != nil {
			return usageError(cmd, err)
		}
		return nil
	}
}

// subcommandOnly refuses arguments of a command that only groups subcommands.
func subcommandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownCommand(cmd, args[0])
}

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unexpected argument %q", args[0])
}

// emptyFlag returns the name of a flag whose value is empty, such as --batch "$BATCH" if
// the variable is not set.
func emptyFlag(cmd *cobra.Command) (name string) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		empty := f.Value.String() == ""
		if several, ok := f.Value.(pflag.SliceValue); ok {
			empty = len(several.GetSlice()) == 0 || slices.Contains(several.GetSlice(), "")
		}
		if empty {
			name = f.Name
		}
	})
	return name
}

// one requires a single argument, which its error describes.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return errors.New("an argument is missing; give " + what)
		case len(args) > 1:
			return fmt.Errorf("unexpected argument %q; give only %s, in quotes if it contains spaces", args[1], what)
		}
		return nil
	}
}

// fileOutput returns standard output for the content of a file: control characters are
// escaped only on a terminal.
func fileOutput(cmd *cobra.Command) io.Writer {
	if w, ok := cmd.OutOrStdout().(*legible.Writer); ok && !term.IsTerminal(int(os.Stdout.Fd())) {
		return w.Unescaped()
	}
	return cmd.OutOrStdout()
}

func onTerminal() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// newLogger returns the logger of a command, which writes to w. It warns of unknown
// environment variables.
func newLogger(cfg config.Config, w zapcore.WriteSyncer) *zap.Logger {
	log := logging.New(cfg.Log, zapcore.AddSync(legible.NewWriter(w)))
	logging.RedirectRedis(logging.Limited(log))
	for _, m := range config.Unknown(os.Environ()) {
		if m.Nearest == "" {
			log.Warn("unknown variable is ignored", zap.String("variable", m.Name))
			continue
		}
		log.Warn("unknown variable is ignored; is it misspelt?", zap.String("variable", m.Name), zap.String("nearest", m.Nearest))
	}
	return log
}
