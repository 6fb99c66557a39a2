package account

import (
	"fmt"
	"slices"
	"strings"
)

const (
	mostNamed = 3 // accounts of one text
	mostTexts = 3 // of different errors
)

// Failures are errors of some of the accounts of a process. While Redis is away, they are the same
// for all: as an error they say each text once, for how many accounts, and name a few of
// these.
type Failures []Failure

// Failure is the error of an account.
type Failure struct {
	Account string
	Err     error
}

// Error implements error. The most frequent text comes first; beyond three, the others are
// only counted.
func (f Failures) Error() string {
	accounts := map[string][]string{} // by text
	var texts []string
	for _, one := range f {
		text := one.Err.Error()
		if len(accounts[text]) == 0 {
			texts = append(texts, text)
		}
		accounts[text] = append(accounts[text], one.Account)
	}
	slices.SortStableFunc(texts, func(a, b string) int { return len(accounts[b]) - len(accounts[a]) })
	var parts []string
	others := 0
	for i, text := range texts {
		if i < mostTexts {
			parts = append(parts, named(accounts[text])+": "+text)
		} else {
			others += len(accounts[text])
		}
	}
	if others > 0 {
		parts = append(parts, fmt.Sprintf("%d more failed otherwise", others))
	}
	return strings.Join(parts, "; ")
}

// named is the number of accounts, with the names of a few.
func named(accounts []string) string {
	switch n := len(accounts); {
	case n == 1:
		return "account " + accounts[0]
	case n <= mostNamed:
		return "accounts " + strings.Join(accounts, ", ")
	default:
		return fmt.Sprintf("%d accounts (%s, …)", n, strings.Join(accounts[:mostNamed], ", "))
	}
}
