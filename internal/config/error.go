package config

import (
	"fmt"
	"strings"
)

// ExitCode is the exit code for wrong settings (EX_CONFIG): starting the process
// again does not help.
const ExitCode = 78

// Error lists what is wrong with the settings, or with what they refer to, and has
// to be changed by a person.
type Error struct {
	// Problems start with the variable's name, say what to do, and contain no secret.
	Problems []string
}

// Error lists the problems, one per line.
func (e *Error) Error() string {
	heading := "the settings have a problem"
	if len(e.Problems) > 1 {
		heading = fmt.Sprintf("the settings have %d problems", len(e.Problems))
	}
	return heading + ":\n  " + strings.Join(e.Problems, "\n  ")
}
