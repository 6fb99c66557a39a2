package lua

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// composed is a script with its libraries before it.
type composed struct {
	files []file
	text  string
	args  parameters
}

var usesLine = regexp.MustCompile(`(?m)^-- uses: (.+)$`)

// uses returns the libraries in the "uses" lines of a file.
func uses(text string) []string {
	var names []string
	for _, line := range usesLine.FindAllStringSubmatch(text, -1) {
		names = append(names, strings.Split(line[1], ", ")...)
	}
	return names
}

// compose puts the libraries of a script before it, each after the libraries that it uses.
func (p *Package) compose(script file) (composed, error) {
	var c composed
	var add func(f file, users []string) error
	add = func(f file, users []string) error {
		if slices.Contains(users, f.path) {
			return fmt.Errorf("%s uses itself through %s", f.path, strings.Join(users, ", "))
		}
		if slices.Contains(c.files, f) {
			return nil
		}
		for _, name := range uses(f.text) {
			library, err := p.find(name + ".lua")
			if err != nil {
				return fmt.Errorf("%s uses %s: %w", f.path, name, err)
			}
			if err := add(library, append(users, f.path)); err != nil {
				return err
			}
		}
		c.files = append(c.files, f)
		return nil
	}
	if err := add(script, nil); err != nil {
		return c, err
	}
	var err error
	if c.text, err = blocks(c.files); err != nil {
		return c, err
	}
	c.args, err = readParameters(script)
	return c, err
}

// position returns the file and line of a line of the composed script.
func (c composed) position(line int) string {
	for _, f := range c.files {
		lines := strings.Count(f.text, "\n")
		if line <= lines || f == c.files[len(c.files)-1] {
			return fmt.Sprintf("%s:%d", f.path, line)
		}
		line -= lines
	}
	return fmt.Sprintf("user_script:%d", line)
}
