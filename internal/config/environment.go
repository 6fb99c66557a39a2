package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sethvargo/go-envconfig"
)

// Slots is a number of slots. It exists to say that "auto" is yet to come.
type Slots int

// notYetError says, after the variable's name, what this version cannot do.
type notYetError string

func (e notYetError) Error() string { return string(e) }

// EnvDecode reads a number.
func (s *Slots) EnvDecode(value string) error {
	if value == "auto" {
		return notYetError(`is "auto", which comes with a later version; use a number from 1 to 1000`)
	}
	n, err := strconv.Atoi(value)
	*s = Slots(n)
	return err
}

// environment is where envconfig looks variables up. It reads the files of
// …_FILE variables, refuses empty values, and collects the problems.
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
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		if target, isFile := strings.CutSuffix(name, fileSuffix); isFile && mayBeFile(target) {
			e.readFile(target, e.values[name])
		}
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
	default:
		e.values[variable] = value
	}
}

// refuse notes what is wrong with a variable and goes on as if it were not set.
func (e *environment) refuse(variable, problem string) {
	e.problems = append(e.problems, problem)
	e.refused[variable] = true
	delete(e.values, variable)
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
	value, ok := e.values[variable]
	if ok && value == "" {
		e.refuse(variable, variable+" is empty; unset it, or give it a value")
		return "", false
	}
	return value, ok
}

// decode fills the Config. envconfig stops at its first error, which concerns
// what it asked for last: that is refused, and the rest read again.
func (e *environment) decode(c *Config) {
	for {
		*c = Config{}
		err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: c, Lookuper: e})
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
		notYet notYetError
	)
	switch {
	case errors.As(err, &notYet):
		return notYet.Error()
	case errors.As(err, &number) && number.Func == "ParseBool":
		return fmt.Sprintf("is %q; use true or false", number.Num)
	case errors.As(err, &number):
		return fmt.Sprintf("is %q; use a whole number", number.Num)
	default:
		return "is not a time; use a number with its unit, such as 15s or 2m"
	}
}
