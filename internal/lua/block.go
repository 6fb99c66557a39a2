package lua

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// A composed script has each library in a block. Names that later files use are declared before all
// blocks, the most frequent one last; all other names are local to the block. Redis creates
// the functions of a script on each run, and creating a function searches the variables that it
// uses from the last one on, among all that other functions use and that are in scope.

// declaration matches a declaration of a library. The first group is that of a function, the
// second one of variables.
var declaration = regexp.MustCompile(`(?m)^local (?:function (\w+)|(\w+(?:, \w+)*))( =)?`)

// blocks returns the text of the files, which are libraries but for the last one, a script. It has
// the lines of the files. It fails if two libraries declare the same name.
func blocks(files []file) (string, error) {
	libraries, script := files[:len(files)-1], files[len(files)-1]
	uses := make([]map[string]int, len(files))
	for i, f := range files {
		uses[i] = words(f.text)
	}
	frequency := map[string]int{} // of the shared names
	bodies := make([]string, len(libraries))
	declared := map[string]string{} // the library, by name
	var twice error
	for i, library := range libraries {
		bodies[i] = declaration.ReplaceAllStringFunc(library.text, func(found string) string {
			m := declaration.FindStringSubmatch(found)
			names := []string{m[1]}
			if m[1] == "" {
				names = strings.Split(m[2], ", ")
			}
			for _, name := range names {
				if other, ok := declared[name]; ok && name != "_" {
					twice = fmt.Errorf("%s is declared in %s and in %s", name, other, library.path)
				}
				declared[name] = library.path
			}
			if !slices.ContainsFunc(names, func(name string) bool { return used(uses[i+1:], name) > 0 }) {
				return found
			}
			for _, name := range names {
				frequency[name] = used(uses, name)
			}
			if m[1] == "" && m[3] == "" {
				return m[2] + " = nil"
			}
			return strings.TrimPrefix(found, "local ")
		})
	}
	var text strings.Builder
	text.WriteString(declare(frequency))
	for _, body := range bodies {
		text.WriteString("do " + body + "end ")
	}
	text.WriteString(script.text)
	return text.String(), twice
}

// declare returns the declaration of the shared names.
func declare(frequency map[string]int) string {
	_, wrapped := frequency["redis"] // a library that replaces it needs the one of the server
	delete(frequency, "redis")
	var names []string
	for name := range frequency {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(frequency[a], frequency[b]), cmp.Compare(a, b))
	})
	text := ""
	if len(names) > 0 {
		text = "local " + strings.Join(names, ", ") + " "
	}
	if wrapped {
		text += "local redis = redis "
	}
	return text
}

// words counts the words of a text: names, and words of its strings and comments.
func words(text string) map[string]int {
	count := map[string]int{}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		count[word]++
	}
	return count
}

func used(by []map[string]int, name string) int {
	n := 0
	for _, words := range by {
		n += words[name]
	}
	return n
}
