package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// directory is the setting that lists several accounts.
type directory struct {
	Path string `env:"KYCLINK_ACCOUNTS"`
}

// accountSuffix is the end of the names of files with the settings of an account.
const accountSuffix = ".env"

// LoadAccounts reads the settings of a process that works for one account or, if
// KYCLINK_ACCOUNTS is set, for several. It returns those of each account, by name. Those in
// the file of an account replace those in the environment; the others are the same for all.
// The error is always an [*Error].
func LoadAccounts(environ []string, needs Needs) ([]Config, error) {
	env := newEnvironment(environ)
	var listed directory
	decode(env, &listed)
	if !env.given("KYCLINK_ACCOUNTS") {
		c, err := Load(environ, needs)
		return []Config{c}, err
	}
	if env.given("KYCLINK_ACCOUNT") {
		env.report(errors.New("KYCLINK_ACCOUNT is set, while KYCLINK_ACCOUNTS names a directory with a file for each account; unset one of them"))
	}
	var all []Config
	if listed.Path != "" {
		files, problems := accountFiles(listed.Path)
		env.report(problems...)
		for _, f := range files {
			if c, ok := f.load(env, environ, needs); ok {
				all = append(all, c)
			}
		}
	}
	if len(env.problems) > 0 {
		slices.Sort(env.problems)
		return nil, &Error{Problems: slices.Compact(env.problems)}
	}
	return all, nil
}

// SharesClient reports whether the account has its FaceKi client in common with another: FaceKi
// limits both together, and kyclink each by itself. Simulated accounts have no limit.
func (c Config) SharesClient(with Config) bool {
	baseURL := func(c Config) string { return strings.TrimRight(c.FaceKi.BaseURL, "/") }
	return !c.FaceKi.Simulated && !with.FaceKi.Simulated && c.FaceKi.ClientID == with.FaceKi.ClientID && baseURL(c) == baseURL(with)
}

// load loads the settings of the account. It adds problems to those of the process.
func (f *accountFile) load(env *environment, environ []string, needs Needs) (c Config, ok bool) {
	if f.read(); len(f.problems) > 0 {
		env.problems = append(env.problems, f.problems...)
		return c, false
	}
	c, err := Load(f.over(environ), needs)
	if err == nil {
		c.File, c.Exposed = f.path, f.exposed
		return c, true
	}
	for _, problem := range err.(*Error).Problems { //nolint:errorlint,forcetypeassert // Load returns no other
		env.problems = append(env.problems, f.located(problem, env))
	}
	return c, false
}

// accountFiles returns the files of the accounts in a directory, by name. Names that begin with
// a dot are skipped: a mounted Kubernetes secret has such entries of its own.
func accountFiles(path string) (files []*accountFile, problems []error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, []error{fmt.Errorf("KYCLINK_ACCOUNTS cannot be read (%w); name a directory that this process may read", err)}
	}
	for _, e := range entries {
		name, file := strings.CutSuffix(e.Name(), accountSuffix)
		switch full := filepath.Join(path, e.Name()); {
		case strings.HasPrefix(e.Name(), "."):
		case !file:
			problems = append(problems, fmt.Errorf("%s is not the settings of an account; name it ACCOUNT.env, or remove it from the directory of KYCLINK_ACCOUNTS", full))
		case !validAccount(name):
			problems = append(problems, fmt.Errorf("%s names the account %q; use 1 to 32 of a-z, 0-9 and - before .env", full, name))
		default:
			files = append(files, &accountFile{path: full, account: name, lines: map[string]int{}})
		}
	}
	if len(files) == 0 && len(problems) == 0 {
		problems = append(problems, fmt.Errorf("KYCLINK_ACCOUNTS names %s, which is empty; write a file ACCOUNT.env for each account", path))
	}
	return files, problems
}

// accountFile is a file with the settings of one account, in lines KEY=VALUE. The value is the
// rest of the line as it is: there are no quotes, escapes or references, which a secret could
// contain by chance.
type accountFile struct {
	path, account string
	entries       []string       // KEY=VALUE
	lines         map[string]int // of the settings, without _FILE
	exposed       bool           // it contains a secret, and every user of the host may read it
	problems      []string       // each starts with the path
}

// variableName matches the names of variables. Anything else before = may be a part of a secret,
// and is not shown.
var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

func (f *accountFile) read() {
	content, err := os.ReadFile(f.path)
	switch {
	case err != nil:
		f.problems = append(f.problems, fmt.Sprintf("%s cannot be read (%v); check its permissions", f.path, err))
		return
	case isUTF16(content) || strings.HasPrefix(string(content), "\ufeff"):
		f.problems = append(f.problems, f.path+" begins with a byte order mark; save it as UTF-8 without BOM")
		return
	}
	secret := false
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if text := strings.TrimSpace(line); text == "" || text[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if problem := f.wrong(name, ok); problem != "" {
			f.problems = append(f.problems, fmt.Sprintf("%s:%d: %s", f.path, i+1, problem))
			continue
		}
		f.lines[strings.TrimSuffix(name, fileSuffix)] = i + 1
		f.entries = append(f.entries, name+"="+value)
		secret = secret || mayBeFile(name)
	}
	if info, err := os.Stat(f.path); err == nil && runtime.GOOS != "windows" { // which has no such permissions
		const othersMayRead = 0o004
		f.exposed = secret && info.Mode().Perm()&othersMayRead != 0
	}
}

// wrong says what is wrong with the name of a setting, or returns "".
func (f *accountFile) wrong(name string, ok bool) string {
	switch {
	case !ok || !variableName.MatchString(name):
		return "is not of the form KEY=VALUE, with the name of a setting as the key"
	case !known(name):
		if near := nearest(name, true); near != "" {
			return fmt.Sprintf("%s is not a setting; did you mean %s?", name, near)
		}
		return name + " is not a setting; docs/settings.md lists them"
	case !ofAccount(strings.TrimSuffix(name, fileSuffix)):
		return name + " is a setting of the process; remove it here, and set it in the environment of the worker"
	case slices.ContainsFunc(f.entries, func(e string) bool { return strings.HasPrefix(e, name+"=") }):
		return name + " is set twice; remove one of the lines"
	}
	return ""
}

// over returns an environment in which the settings of the file replace those in environ.
func (f *accountFile) over(environ []string) []string {
	merged := []string{"KYCLINK_ACCOUNT=" + f.account}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		_, own := f.lines[strings.TrimSuffix(name, fileSuffix)]
		if !own && name != "KYCLINK_ACCOUNT" && name != "KYCLINK_ACCOUNTS" {
			merged = append(merged, entry)
		}
	}
	return append(merged, f.entries...)
}

// located puts the file, and the line if there is one, before a problem of the file: of a
// setting in it, or of one that is missing in it and in the environment of the process.
func (f *accountFile) located(problem string, process *environment) string {
	name, _, _ := strings.Cut(problem, " ")
	name = strings.TrimSuffix(strings.TrimSuffix(name, ":"), fileSuffix)
	switch line, own := f.lines[name]; {
	case own:
		return fmt.Sprintf("%s:%d: %s", f.path, line, problem)
	case ofAccount(name) && !process.given(name):
		return f.path + ": " + problem
	default:
		return problem
	}
}

// ofAccount reports whether a setting is one of an account, and not of the process.
func ofAccount(name string) bool {
	for _, g := range settings {
		if slices.ContainsFunc(g.settings, func(s Setting) bool { return s.Name == name }) {
			return g.ofAccount
		}
	}
	return false
}

func validAccount(name string) bool { return regexp.MustCompile(`^[a-z0-9-]{1,32}$`).MatchString(name) }
