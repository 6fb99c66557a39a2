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

// Slots is a number of slots, or [Auto].
type Slots int

// Auto lets the slots follow the rate and the usual latency.
const Auto Slots = 0

// EnvDecode reads a number from 1 to [MaxConcurrency], or "auto".
func (s *Slots) EnvDecode(value string) error {
	if value == "auto" {
		*s = Auto
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > MaxConcurrency {
		return wrongError(fmt.Sprintf("is %q; use auto, or a number from 1 to %d", value, MaxConcurrency))
	}
	*s = Slots(n)
	return nil
}

// Backlog is a number of requests.
type Backlog int

// EnvDecode reads a number from 1 to [MaxBacklog].
func (b *Backlog) EnvDecode(value string) error {
	if value == "" { // envconfig asks for what is not set as well
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > MaxBacklog {
		return wrongError(fmt.Sprintf("is %q; use a number from 1 to %d, or unset it for no limit", value, MaxBacklog))
	}
	*b = Backlog(n)
	return nil
}

// Rate is the account's rate.
type Rate struct{ admission.Rate }

// EnvDecode reads N/s, N/m or N/h.
func (r *Rate) EnvDecode(value string) (err error) {
	if r.Rate, err = admission.ParseRate(value); err != nil {
		return wrongError(fmt.Sprintf("is wrong: %v", err))
	}
	return nil
}

// wrongError says, after the variable's name, what is wrong with its value.
type wrongError string

func (e wrongError) Error() string { return string(e) }

// environment is where envconfig looks variables up. It reads the files of
// …_FILE variables, refuses empty values, and collects the problems, all of what
// is asked for and of nothing else.
type environment struct {
	values   map[string]string
	set      map[string]bool // by the variable or its file, readable or not
	refused  map[string]bool // variables that have their problem already
	problems []string
	asked    string // the last variable that was looked up
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

// readFile takes the value of a variable from a file, whose content is shown in
// no problem.
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
		refuse("cannot be read (%v); check the path and who may read it", err)
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

// refuse notes what is wrong with a variable and goes on as if it were not set.
func (e *environment) refuse(variable, problem string) {
	e.problems = append(e.problems, problem)
	e.refused[variable] = true
	delete(e.values, variable)
	delete(e.values, variable+fileSuffix)
}

// report notes problems, each of which starts with its variable's name. One
// problem a variable is enough: what was refused seems to be missing afterwards.
func (e *environment) report(problems ...error) {
	for _, p := range problems {
		if variable, _, _ := strings.Cut(p.Error(), " "); !e.refused[variable] {
			e.problems = append(e.problems, p.Error())
		}
	}
	slices.Sort(e.problems)
}

// given says whether somebody tried to set the variable, even if in vain.
func (e *environment) given(variable string) bool { return e.set[variable] }

// Lookup is what envconfig calls.
func (e *environment) Lookup(variable string) (string, bool) {
	e.asked = variable
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

// decode fills a struct. envconfig stops at its first error, which concerns what
// it asked for last: that is refused, and the rest read again.
func decode[T any](e *environment, target *T) {
	for {
		*target = *new(T)
		err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: target, Lookuper: e})
		if err == nil {
			return
		}
		if _, ok := e.values[e.asked]; !ok {
			panic(fmt.Sprintf("config: a tag that envconfig does not understand: %v", err))
		}
		e.refuse(e.asked, e.asked+" "+explain(err))
	}
}

// explain says in our words what the standard library's parsers say in theirs.
// What is no number and no boolean is a duration.
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
		return "is not a time; use a number with its unit, such as 15s or 2m"
	}
}
