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

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "kyclink",
		Short: "A KYC link for every person, through FaceKi",
		Long: `kyclink creates a personal KYC link for each person, through FaceKi's
rate-limited and sometimes failing API: a file of people in, the same file with
their links out, or one link at a time as people sign up.

Settings come from the environment; docs/settings.md lists them. For a trial without
any, use kyclink run FILE -o OUT --simulate.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if name := emptyFlag(cmd); name != "" {
				return usageError(cmd, fmt.Errorf("--%s is empty; leave it out where nothing is given", name))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// Whatever people wrote comes out so that it can be seen, and does nothing.
	root.SetOut(legible.NewWriter(os.Stdout))
	root.SetErr(legible.NewWriter(os.Stderr))
	root.SetFlagErrorFunc(usageError)
	root.AddCommand(newRun(), newWorker(), newRequest(), newShow(), newFailed(), newHeld(), newForget(), newCallbacks(), newImport(), newBatch(), newAccount(), newResults(), newServe(), newKeys(), newAudit(), newSimulator())
	root.CompletionOptions.HiddenDefaultCmd = true
	checkArgs(root)
	return root
}

// checkArgs makes wrong arguments of any command a usage error.
func checkArgs(cmd *cobra.Command) {
	cmd.Args = usageArgs(cmd.Args)
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

// usageError is a command line that makes no sense.
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

// emptyFlag is the name of a flag that was given with nothing in it, as a shell does
// with a variable that is not set.
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

// one wants a single argument, and says what it is where there are none or several.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return errors.New("give " + what)
		}
		return nil
	}
}

// fileOutput is standard output as a file is written to it: as it is, but where
// somebody looks at it.
func fileOutput(cmd *cobra.Command) io.Writer {
	if w, ok := cmd.OutOrStdout().(*legible.Writer); ok && !term.IsTerminal(int(os.Stdout.Fd())) {
		return w.Unescaped()
	}
	return cmd.OutOrStdout()
}

func onTerminal() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// newLogger makes the logger of a command, which writes to standard error, or
// to w where something else is drawn there.
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
