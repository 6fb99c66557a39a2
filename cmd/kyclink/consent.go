package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// consent asks a person to confirm what cannot be undone.
type consent struct{ yes bool }

func (c *consent) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask for confirmation; required without a terminal")
}

// check refuses a command that needs confirmation if there is no terminal to ask on.
func (c *consent) check(cmd *cobra.Command) error {
	if c.yes || term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	return usageError(cmd, errors.New("this cannot be undone, and there is no terminal to ask on; give --yes to do it"))
}

// get asks for confirmation unless --yes is given. A signal means no.
func (c *consent) get(cmd *cobra.Command, question string) error {
	if c.yes {
		return nil
	}
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	answered := make(chan string, 1)
	go func() {
		answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // no answer means no
		answered <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case answer := <-answered:
		if answer == "y" || answer == "yes" {
			return nil
		}
	case <-cmd.Context().Done():
		fmt.Fprintln(cmd.ErrOrStderr())
		return fmt.Errorf("%w: nothing was changed", context.Cause(cmd.Context()))
	}
	return errors.New("nothing was changed")
}
