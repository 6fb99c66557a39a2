package config

import (
	"fmt"
	"strings"
)

// ExitCode is the exit code for wrong settings (EX_CONFIG): starting the process
// again does not help.
const ExitCode = 78

// Error lists the problems of the settings, or of what they refer to, that a person must
// solve.
type Error struct {
	// Problems start with the variable's name, say what to do, and contain no secrets.
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
