package config

import (
	"fmt"
	"strings"
)

// ExitCode is what a process ends with because of its settings (EX_CONFIG), so
// that whoever supervises it knows that starting it again is of no use.
const ExitCode = 78

// Error is everything that is wrong with the settings, or with what they point
// at, as far as a person has to change it.
type Error struct {
	// Problems start with the variable's name, say what to do, and hold no secret.
	Problems []string
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	heading := "the settings have a problem"
	if len(e.Problems) > 1 {
		heading = fmt.Sprintf("the settings have %d problems", len(e.Problems))
	}
	return heading + ":\n  " + strings.Join(e.Problems, "\n  ")
}
