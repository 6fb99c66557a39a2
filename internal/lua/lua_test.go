package lua

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// files returns a package of files for a test, by their names without .lua.
func files(texts map[string]string, imported ...*Package) *Package {
	all := fstest.MapFS{}
	for name, text := range texts {
		all[name+".lua"] = &fstest.MapFile{Data: []byte(text)}
	}
	return NewPackage("test", all, imported...)
}

func paths(c composed) string {
	var all []string
	for _, f := range c.files {
		all = append(all, f.path)
	}
	return strings.Join(all, " ")
}

func TestScript_CarriesNamedLibrariesOnceAfterThoseTheyUse(t *testing.T) {
	other := files(map[string]string{"third": "local third = 3\n", "own": "local own = 'imported'\n"})
	other.name = "other"
	p := files(map[string]string{
		"first":   "local first = 1\n",
		"second":  "-- uses: first, third\nlocal second = first + third\n",
		"own":     "local own = 'its own'\n",
		"unnamed": "local unnamed = 0\n",
		"script":  "-- script returns a sum.\n--\n-- uses: second, first, own\nreturn second + first\n",
	}, other)
	l, err := p.Script("script.lua").load()
	if err != nil {
		t.Fatal(err)
	}
	want := "test/first.lua other/third.lua test/second.lua test/own.lua test/script.lua"
	if got := paths(l.composed); got != want {
		t.Errorf("composed of %s, want %s", got, want)
	}
	if n, err := p.Script("script.lua").Run(t.Context(), redistest.Start(t).Client(t), nil, nil).Int(); n != 5 || err != nil {
		t.Errorf("returned %d, %v", n, err)
	}
}

func TestScript_SharesVariablesWithItsLibraries(t *testing.T) {
	p := files(map[string]string{
		"first":  "local step, count = 1, 0\nlocal later\nlocal function add()\n  count = count + step\n  return count\nend\n",
		"second": "-- uses: first\nlocal function add_twice()\n  later = 'set'\n  count = count + 10\n  return add()\nend\n",
		"server": "local server = redis\nlocal redis = { call = function(...) return server.call(...) .. '!' end }\n",
		"script": "-- uses: server, first, second\nlocal step = 100\nreturn { add_twice(), add(), count, later, redis.call('ECHO', 'x') }\n",
	})
	got, err := p.Script("script.lua").Run(t.Context(), redistest.Start(t).Client(t), nil, nil).Slice()
	if want := []any{int64(11), int64(12), int64(12), "set", "x!"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestScript_FailsOnWrongLibraries(t *testing.T) {
	p := files(map[string]string{
		"a":       "-- uses: b\nlocal a\n",
		"b":       "-- uses: a\nlocal b\n",
		"circle":  "-- uses: a\nreturn 1\n",
		"missing": "-- uses: nothing\nreturn 1\n",
		"one":     "local name = 1\n",
		"other":   "local name, second = 2, 3\n",
		"twice":   "-- uses: one, other\nreturn second\n",
	})
	for name, want := range map[string]string{
		"circle":  "test/a.lua uses itself through test/circle.lua, test/a.lua, test/b.lua",
		"missing": "no Lua file nothing.lua",
		"absent":  "no Lua file absent.lua",
		"twice":   "name is declared in test/one.lua and in test/other.lua",
	} {
		err := p.Script(name+".lua").Run(t.Context(), redistest.Start(t).Client(t), nil, nil).Err()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestRun_NamesFileAndLineOfAnError(t *testing.T) {
	p := files(map[string]string{
		"failing": "local function fail()\n  error('it fails')\nend\nlocal function add()\n  return 1 + {}\nend\n",
		"raise":   "-- uses: failing\n\nfail()\n",
		"call":    "-- uses: failing\n\nadd()\n",
		"redis":   "-- uses: failing\nif KEYS then\n  redis.call('INCRBY', 'x', 'y')\nend\nreturn fail, add\n",
		"caught":  "-- uses: failing\nlocal _, why = pcall(fail)\nreturn why\n",
	})
	rdb := redistest.Start(t).Client(t)
	for name, want := range map[string]string{
		"raise": "test/failing.lua:2: it fails",
		"call":  "test/failing.lua:5: attempt to perform arithmetic",
		"redis": "test/redis.lua:3",
	} {
		err := p.Script(name+".lua").Run(t.Context(), rdb, nil, nil).Err()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "user_script") {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if _, ok := errors.AsType[redis.Error](err); !ok {
			t.Errorf("%s: %T is no answer of Redis", name, err)
		}
	}
	caught := p.Script("caught.lua")
	why, err := caught.Run(t.Context(), rdb, nil, nil).Text()
	if got := caught.Locate(why); err != nil || got != "test/failing.lua:2: it fails" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRun_LeavesOtherErrorsAsTheyAre(t *testing.T) {
	p := files(map[string]string{"text": "error({ err = 'READONLY no writes' })\n"})
	err := p.Script("text.lua").Run(t.Context(), redistest.Start(t).Client(t), nil, nil).Err()
	if !redis.HasErrorPrefix(err, "READONLY") {
		t.Errorf("%v", err)
	}
	if err := p.Text("nil.lua", "return nil\n").Run(t.Context(), redistest.Start(t).Client(t), nil, nil).Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("%v", err)
	}
}

const rowScript = `local batch,
  due = unpack(ARGV, 1, 2)
local out = { batch, due }
for i = 3, #ARGV, 2 do
  local id, raw = unpack(ARGV, i, i + 1)
  out[#out + 1] = id .. '=' .. raw
end
return out
`

func TestRun_PassesArgumentsByName(t *testing.T) {
	s := files(map[string]string{"rows": rowScript}).Script("rows.lua")
	rows := NewRows("id", "raw")
	rows.Add("A-1", []byte("x"))
	rows.Add("A-2", true)
	got, err := s.Run(t.Context(), redistest.Start(t).Client(t), nil, Args{"due": 7, "batch": "b"}, rows).StringSlice()
	if want := []string{"b", "7", "A-1=x", "A-2=1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	list := files(map[string]string{"list": "for i = 1, #ARGV do\n  local id = unpack(ARGV, i, i)\n  return id\nend\n"}).Script("list.lua")
	if got, err := list.Run(t.Context(), redistest.Start(t).Client(t), nil, nil, Column("id", []string{"A-1"})).Text(); err != nil || got != "A-1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRun_RefusesOtherNamesWithoutACall(t *testing.T) {
	s := files(map[string]string{"rows": rowScript}).Script("rows.lua")
	both := Args{"batch": 1, "due": 2}
	for want, run := range map[string]func() error{
		"argument due is missing": func() error { return s.Run(t.Context(), nil, nil, Args{"batch": 1}, NewRows("id", "raw")).Err() },
		"unknown arguments: it takes [batch due] and got": func() error {
			return s.Run(t.Context(), nil, nil, Args{"batch": 1, "due": 2, "x": 3}, NewRows("id", "raw")).Err()
		},
		"columns [id raw], not [raw id]":             func() error { return s.Run(t.Context(), nil, nil, both, NewRows("raw", "id")).Err() },
		"rows with the columns [id raw] are missing": func() error { return s.Run(t.Context(), nil, nil, both).Err() },
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestScript_FailsOnRowsThatDoNotFit(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(rowScript, "1, 2)", "1, 3)", 1):         "unpacks 3 arguments but names 2",
		strings.Replace(rowScript, "for i = 3", "for i = 2", 1): "does not fit 2 arguments and 2 columns",
		strings.Replace(rowScript, "#ARGV, 2", "#ARGV, 3", 1):   "does not fit 2 arguments and 2 columns",
		strings.Replace(rowScript, "i + 1", "i + 2", 1):         "does not fit 2 arguments and 2 columns",
		"for i = 1, #ARGV do\nend\n":                            "must have both a loop over rows",
	} {
		_, err := readParameters(file{"test/x.lua", text})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
}

func TestFunction_OrdersArgumentsByItsSignature(t *testing.T) {
	f := files(map[string]string{"admit": "local function other(x)\nend\nlocal function admit(id, run,\n    turn)\nend\n"}).Function("admit")
	got, err := f.List(Args{"turn": 3, "id": "A-1", "run": 1})
	if want := []any{"A-1", 1, 3}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := f.List(Args{"turn": 3, "id": "A-1"}); err == nil || !strings.Contains(err.Error(), "argument run is missing") {
		t.Errorf("%v", err)
	}
}
