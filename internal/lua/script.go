package lua

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Script is a script of a [Package]. It is safe for concurrent use.
type Script struct {
	path string
	load func() (*loaded, error) // composes at the first call
}

// loaded is a composed script that is ready to run.
type loaded struct {
	composed
	redis *redis.Script
}

// Script returns the script in a file of the package. It is composed at its first use, so
// that a process composes only the scripts that it runs.
func (p *Package) Script(name string) *Script {
	return p.script(p.name+"/"+name, func() (file, error) { return p.find(name) })
}

// Text returns a script with the given text, for tests. The name appears in errors.
func (p *Package) Text(name, text string) *Script {
	f := file{p.name + "/" + name, text}
	return p.script(f.path, func() (file, error) { return f, nil })
}

func (p *Package) script(path string, find func() (file, error)) *Script {
	return &Script{path, sync.OnceValues(func() (*loaded, error) {
		f, err := find()
		if err != nil {
			return nil, err
		}
		c, err := p.compose(f)
		if err != nil {
			return nil, err
		}
		return &loaded{c, redis.NewScript(c.text)}, nil
	})}
}

// Run runs the script with its keys, arguments (nil if it has none) and rows. If their names
// are not those of the script, it fails without a call to Redis. An [*Error] contains the
// file and the line at which the script failed.
func (s *Script) Run(ctx context.Context, rdb redis.Scripter, keys []string, args Args, rows ...*Rows) *redis.Cmd {
	l, err := s.load()
	if err != nil {
		return failed(ctx, err)
	}
	list, err := l.args.list(args, rows...)
	if err != nil {
		return failed(ctx, err)
	}
	return s.RunList(ctx, rdb, keys, list)
}

// RunList runs the script with arguments in the script's order.
func (s *Script) RunList(ctx context.Context, rdb redis.Scripter, keys []string, list []any) *redis.Cmd {
	l, err := s.load()
	if err != nil {
		return failed(ctx, err)
	}
	cmd := l.redis.Run(ctx, rdb, keys, list...)
	if err := cmd.Err(); err != nil {
		if text := l.locate(err.Error()); text != err.Error() {
			cmd.SetErr(&Error{text, err})
		}
	}
	return cmd
}

func failed(ctx context.Context, err error) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(err)
	return cmd
}

// Locate replaces positions in the composed script with those in its files, in the text of an
// error that the script caught and returned.
func (s *Script) Locate(text string) string {
	l, err := s.load()
	if err != nil {
		return text
	}
	return l.locate(text)
}

var position = regexp.MustCompile(`@?\buser_script: ?(\d+)\b`)

func (c composed) locate(text string) string {
	if !strings.Contains(text, "user_script") {
		return text
	}
	return position.ReplaceAllStringFunc(text, func(found string) string {
		line, err := strconv.Atoi(position.FindStringSubmatch(found)[1])
		if err != nil {
			return found
		}
		return c.position(line)
	})
}

// Error is an error of Redis with positions in the script's files.
type Error struct {
	text string
	err  error
}

func (e *Error) Error() string { return e.text }

// RedisError marks the error as a reply of Redis, see [redis.Error].
func (e *Error) RedisError() {}

func (e *Error) Unwrap() error { return e.err }

// Function is a Lua function that a script calls with arguments that Go passes.
type Function struct {
	name string
	load func() (parameters, error)
}

var functionLine = regexp.MustCompile(`(?m)^local function (\w+)\(([\w, ]*)\)`)

// Function returns the function with the same name as its file.
func (p *Package) Function(name string) *Function {
	return &Function{name, sync.OnceValues(func() (parameters, error) {
		f, err := p.find(name + ".lua")
		if err != nil {
			return parameters{}, err
		}
		text := continued.ReplaceAllString(f.text, ", ")
		for _, m := range functionLine.FindAllStringSubmatch(text, -1) {
			if m[1] == name {
				return parameters{path: f.path, names: strings.Split(m[2], ", ")}, nil
			}
		}
		return parameters{}, fmt.Errorf("%s: no function %s", f.path, name)
	})}
}

// Name returns the function's name.
func (f *Function) Name() string { return f.name }

// List returns the arguments in the function's order.
func (f *Function) List(args Args) ([]any, error) {
	p, err := f.load()
	if err != nil {
		return nil, err
	}
	return p.list(args)
}
