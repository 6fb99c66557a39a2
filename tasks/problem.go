package tasks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/legible"
)

const (
	// MaxProblems is the number of problems that an [InvalidError] lists. If there are
	// more, another entry without a key has their number.
	MaxProblems = 20
	// maxMessage is the length of a message, in characters.
	maxMessage = 512
)

// Problem is a problem with one key of a request, or with all of it if Key is empty.
type Problem struct {
	Key     string `json:"key"`
	Message string `json:"message"`
}

func (p Problem) String() string {
	if p.Key == "" {
		return p.Message
	}
	return legible.Line(p.Key) + ": " + p.Message
}

// InvalidError lists the problems of a request (reason "invalid").
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

// NewInvalidError returns an error with the first [MaxProblems] problems, known keys
// first. It shortens names and messages, so that its size does not depend on the input.
// It may reorder problems.
func NewInvalidError(problems []Problem) *InvalidError {
	more := len(problems) - MaxProblems
	if more > 0 {
		keys := Keys()
		slices.SortStableFunc(problems, func(a, b Problem) int { return unknown(keys, a) - unknown(keys, b) })
		problems = problems[:MaxProblems]
	}
	listed := make([]Problem, len(problems), MaxProblems+1)
	for i, p := range problems {
		listed[i] = Problem{legible.Shorten(p.Key), legible.Truncate(p.Message, maxMessage)}
	}
	if more > 0 {
		listed = append(listed, Problem{Message: fmt.Sprintf("and %d more", more)})
	}
	return &InvalidError{listed}
}

// unknown orders problems with unknown keys after the others.
func unknown(keys []string, p Problem) int {
	if p.Key == "" || slices.Contains(keys, p.Key) {
		return 0
	}
	return 1
}

func invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return NewInvalidError(problems)
}
