package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

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
		Long: `kyclink creates a personal KYC link for each person, through FaceKi's rate-limited and
sometimes failing API: for a file of people, or for one person at a time.

Settings are environment variables; docs/settings.md lists them. For a trial without any:
kyclink run FILE -o OUT --simulate`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommandOnly,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if name := emptyFlag(cmd); name != "" {
				return usageError(cmd, fmt.Errorf("--%s is empty; omit it, or give it a value", name))
			}
			return nil
		},
		RunE: showHelp,
	}
	// Control characters in what people wrote are printed visibly, and have no effect.
	root.SetOut(legible.NewWriter(os.Stdout))
	root.SetErr(legible.NewWriter(os.Stderr))
	root.SetFlagErrorFunc(usageError)
	addGroup(root, groupJob, "Do the job:", newRun(), newImport(), newBatch(), newRequest(), newWorker())
	addGroup(root, groupWatch, "Watch:", newStatus(), newShow(), newAccount(), newAudit())
	addGroup(root, groupRepair, "Repair:", newFailed(), newHeld(), newCallbacks())
	addGroup(root, groupOperate, "Operate:", newForget(), newKeys(), newVersion())
	addGroup(root, groupIntegrate, "Integrate:", newServe(), newResults(), newSimulator())
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

// checkArgs makes wrong arguments of a command, and of those below it, a usage error.
func checkArgs(cmd *cobra.Command) {
	cmd.Args = usageArgs(cmd.Args)
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

// usageError is an error of the command line.
func usageError(cmd *cobra.Command, err error) error {
	return &codeError{exitUsage, fmt.Errorf("%w\nSee %s --help", err, cmd.CommandPath())}
}

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

// subcommandOnly refuses arguments of a command that only groups others.
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

// emptyFlag is the name of a flag whose value is empty, as a shell's is from a variable
// that is not set.
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

// one requires a single argument, and names it if there is none, or more than one.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return errors.New("give " + what)
		}
		return nil
	}
}

// fileOutput is standard output for the content of a file, which is escaped only on a
// terminal.
func fileOutput(cmd *cobra.Command) io.Writer {
	if w, ok := cmd.OutOrStdout().(*legible.Writer); ok && !term.IsTerminal(int(os.Stdout.Fd())) {
		return w.Unescaped()
	}
	return cmd.OutOrStdout()
}

func onTerminal() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// newLogger makes the logger of a command, which writes to w, and warns about unknown
// variables.
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
