// Package lua composes Redis scripts from the libraries that they use.
package lua

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Script is a script with those declarations of the libraries before it that it
// uses, directly or through others: Redis makes every function of a script anew
// each time that it runs. A library is nothing but local declarations, each of
// which begins a line.
func Script(lua string, libraries ...string) *redis.Script {
	texts := strings.Join(append(slices.Clone(libraries), lua), "\n")
	if known, ok := scripts.Load(texts); ok {
		return known.(*redis.Script)
	}
	script := redis.NewScript(compose(lua, libraries...))
	scripts.Store(texts, script)
	return script
}

func compose(lua string, libraries ...string) string {
	used := map[string]bool{}
	mention(used, lua)
	parts := []string{lua}
	// What a declaration uses comes before it.
	for _, library := range slices.Backward(libraries) {
		for _, d := range slices.Backward(read(library)) {
			if slices.ContainsFunc(d.names, func(name string) bool { return used[name] }) {
				maps.Copy(used, d.uses)
				parts = append(parts, d.text)
			}
		}
	}
	slices.Reverse(parts)
	return strings.Join(parts, "")
}

// declaration is a local of a library, or several that are declared together.
type declaration struct {
	names []string
	text  string
	uses  map[string]bool // names
}

// What was made of a text stays true: scripts are made of few libraries, and
// again for each ledger.
var scripts, libraries sync.Map

func read(library string) []declaration {
	if known, ok := libraries.Load(library); ok {
		return known.([]declaration)
	}
	all := declarations(library)
	libraries.Store(library, all)
	return all
}

var (
	declares = regexp.MustCompile(`(?m)^local (?:function )?([A-Za-z_]\w*(?:, *[A-Za-z_]\w*)*)`)
	remark   = regexp.MustCompile(`(?m)^ *--.*\n`)
	// token is a name, unless a dot makes it a field, or what may hold what looks like one.
	token = regexp.MustCompile(`'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|--.*|\.\.|\.?[A-Za-z_]\w*`)
)

func declarations(library string) []declaration {
	library = remark.ReplaceAllString(library, "")
	var all []declaration
	found := declares.FindAllStringSubmatchIndex(library, -1)
	for i, at := range found {
		end := len(library)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		names := strings.ReplaceAll(library[at[2]:at[3]], " ", "")
		d := declaration{strings.Split(names, ","), library[at[0]:end], map[string]bool{}}
		mention(d.uses, d.text)
		all = append(all, d)
	}
	return all
}

// mention adds the names that lua uses.
func mention(used map[string]bool, lua string) {
	for _, name := range token.FindAllString(lua, -1) {
		used[name] = true
	}
}
