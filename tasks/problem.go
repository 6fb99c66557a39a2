package tasks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/legible"
)

const (
	// MaxProblems is how many problems an [InvalidError] lists. Where there are
	// more, one more entry without a key says how many.
	MaxProblems = 20
	// maxEchoed and maxMessage are in characters: a name that a caller made up is
	// repeated in answers, logs and files.
	maxEchoed  = 128
	maxMessage = 512
)

// Problem is one thing that is wrong with one key of a request.
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

// InvalidError says what is wrong with a request (reason "invalid").
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

// NewInvalidError lists the first [MaxProblems] problems, those of keys that a
// request has before the others, and shortens names and messages, so that its size
// does not depend on what was sent. It may reorder problems.
func NewInvalidError(problems []Problem) *InvalidError {
	more := len(problems) - MaxProblems
	if more > 0 {
		keys := Keys()
		slices.SortStableFunc(problems, func(a, b Problem) int { return unknown(keys, a) - unknown(keys, b) })
		problems = problems[:MaxProblems]
	}
	listed := make([]Problem, len(problems), MaxProblems+1)
	for i, p := range problems {
		listed[i] = Problem{Shorten(p.Key), cut(p.Message, maxMessage)}
	}
	if more > 0 {
		listed = append(listed, Problem{Message: fmt.Sprintf("and %d more", more)})
	}
	return &InvalidError{listed}
}

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

// Shorten cuts a name that a caller made up to 128 characters, as messages repeat it.
func Shorten(name string) string { return cut(name, maxEchoed) }

// cut gives a copy where it cuts, so that what is left does not keep all of text in
// memory.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	characters := 0
	for i := range text {
		if characters++; characters > most {
			return strings.Clone(text[:i]) + "…"
		}
	}
	return text
}
