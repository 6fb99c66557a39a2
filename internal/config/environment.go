package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sethvargo/go-envconfig"

	"github.com/kyclink/kyclink/internal/admission"
)

// Concurrency is a number of calls in flight, or [Auto].
type Concurrency int

// Auto lets the concurrency limit follow the rate and the usual latency.
const Auto Concurrency = 0

// EnvDecode reads a number from 1 to 1000, or "auto".
func (c *Concurrency) EnvDecode(value string) error {
	if value == "auto" {
		*c = Auto
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxConcurrency {
		return wrongError(fmt.Sprintf("is %q; use auto, or a number from 1 to %d", value, maxConcurrency))
	}
	*c = Concurrency(n)
	return nil
}

// Backlog is a number of requests.
type Backlog int

// EnvDecode reads a number from 1 to 1,000,000,000.
func (b *Backlog) EnvDecode(value string) error {
	if value == "" { // envconfig also decodes variables that are not set
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxBacklog {
		return wrongError(fmt.Sprintf("is %q; use a number from 1 to %d, or unset it for no limit", value, maxBacklog))
	}
	*b = Backlog(n)
	return nil
}

// Rate is the account's rate limit.
type Rate struct{ admission.Rate }

// EnvDecode reads N/s, N/m or N/h.
func (r *Rate) EnvDecode(value string) (err error) {
	if r.Rate, err = admission.ParseRate(value); err != nil {
		return wrongError(fmt.Sprintf("is wrong: %v", err))
	}
	return nil
}

// wrongError describes the problem of a value. Its text follows the variable's name.
type wrongError string

func (e wrongError) Error() string { return string(e) }

// environment is a [envconfig.Lookuper]. It reads the files that …_FILE variables name,
// refuses empty values, and collects the problems of the variables that are looked up.
type environment struct {
	values   map[string]string
	set      map[string]bool // variables that are set, directly or by a file
	refused  map[string]bool // variables whose problem is reported
	problems []string
	last     string // the last variable that was looked up
}

func newEnvironment(environ []string) *environment {
	e := &environment{values: map[string]string{}, set: map[string]bool{}, refused: map[string]bool{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		e.values[name] = value
	}
	for name := range e.values {
		e.set[strings.TrimSuffix(name, fileSuffix)] = true
	}
	return e
}

// readFile reads the value of a variable from a file. No problem shows the content.
func (e *environment) readFile(variable, path string) {
	refuse := func(format string, args ...any) {
		e.refuse(variable, variable+fileSuffix+" "+fmt.Sprintf(format, args...))
	}
	if _, both := e.values[variable]; both {
		refuse("and %s are both set; unset one of them", variable)
		return
	}
	if path == "" {
		refuse("is empty; unset it, or give it a path")
		return
	}
	content, err := os.ReadFile(path)
	switch value := strings.TrimRight(string(content), "\r\n"); {
	case err != nil:
		refuse("cannot be read (%v); check the path and the file's permissions", err)
	case value == "":
		refuse("names %s, which is empty; write the value into it", path)
	case isUTF16(content):
		refuse("names %s, which is in UTF-16; save it as UTF-8 without BOM", path)
	case flaw(variable, value) != "":
		refuse("names %s, whose content %s", path, flaw(variable, value))
	default:
		e.values[variable] = value
		delete(e.values, variable+fileSuffix)
	}
}

// refuse records a problem of a variable, which then counts as not set.
func (e *environment) refuse(variable, problem string) {
	e.problems = append(e.problems, problem)
	e.refused[variable] = true
	delete(e.values, variable)
	delete(e.values, variable+fileSuffix)
}

// report records problems, each of which starts with its variable's name. It skips
// variables that were refused: they only seem to be missing.
func (e *environment) report(problems ...error) {
	for _, p := range problems {
		if variable, _, _ := strings.Cut(p.Error(), " "); !e.refused[variable] {
			e.problems = append(e.problems, p.Error())
		}
	}
	slices.Sort(e.problems)
}

// given reports whether a variable is set, even if it was refused.
func (e *environment) given(variable string) bool { return e.set[variable] }

// Lookup implements [envconfig.Lookuper].
func (e *environment) Lookup(variable string) (string, bool) {
	e.last = variable
	if path, ok := e.values[variable+fileSuffix]; ok && mayBeFile(variable) {
		e.readFile(variable, path)
	}
	value, ok := e.values[variable]
	if ok && value == "" {
		e.refuse(variable, variable+" is empty; unset it, or give it a value")
		return "", false
	}
	if mayBeFile(variable) {
		if what := flaw(variable, value); what != "" {
			e.refuse(variable, variable+" "+what)
			return "", false
		}
	}
	return value, ok
}

// decode fills a struct. envconfig stops at the first error, which belongs to the variable
// that it looked up last. decode refuses that variable and starts again.
func decode[T any](e *environment, target *T) {
	for {
		*target = *new(T)
		err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: target, Lookuper: e})
		if err == nil {
			return
		}
		if _, ok := e.values[e.last]; !ok {
			panic(fmt.Sprintf("config: a tag that envconfig does not understand: %v", err))
		}
		e.refuse(e.last, e.last+" "+explain(err))
	}
}

// explain returns the problem of a value that could not be parsed. It replaces the errors of
// the standard library's parsers; any other error is that of a duration.
func explain(err error) string {
	var (
		number *strconv.NumError
		wrong  wrongError
	)
	switch {
	case errors.As(err, &wrong):
		return wrong.Error()
	case errors.As(err, &number) && number.Func == "ParseBool":
		return fmt.Sprintf("is %q; use true or false", number.Num)
	case errors.As(err, &number):
		return fmt.Sprintf("is %q; use a whole number", number.Num)
	default:
		return "is not a duration; use a number with its unit, such as 15s or 2m"
	}
}
