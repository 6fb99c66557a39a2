// Package lua composes the Lua scripts that run in Redis, passes their arguments by name, and
// translates positions in their errors to files.
//
// A script is a file beside the Go package that runs it. A library is a file that
// consists of local declarations only. A comment line names the libraries that a
// script or a library uses directly:
//
//	-- uses: keys, record, outcome
//
// Composing puts these libraries, and those that they use, before the script: each one whole
// and once, after the libraries that it uses, as a block whose names are local to it if no
// later file uses them. Since Redis creates every function of a script
// on each run, libraries are small, and a script includes only those that it names.
// TestLibrariesAreNamed fails for a library that is named but not used, or the reverse.
//
// A script unpacks its arguments in one line, from which this package takes their names and
// order:
//
//	local id, generation, run = unpack(ARGV)
//
// A script with a variable number of rows after its arguments unpacks each row in the same
// way:
//
//	local batch = unpack(ARGV, 1, 1)
//	for i = 2, #ARGV, 3 do
//	  local id, record, not_after = unpack(ARGV, i, i + 2)
//
// Callers pass [Args] and [Rows] with the same names.
package lua

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed *.lua
var libraries embed.FS

// Package is the Lua files of one Go package. It is safe for concurrent use.
type Package struct {
	name     string
	files    fs.FS
	imported []*Package
}

// NewPackage returns the scripts and libraries in files, which may use the libraries of
// package lua and of the imported packages. The name appears in error positions. A file
// beside a script takes precedence over an imported one of the same name.
func NewPackage(name string, files fs.FS, imported ...*Package) *Package {
	return &Package{name, files, append(imported, &Package{name: "lua", files: libraries})}
}

// file is one Lua file: a script or a library.
type file struct {
	path string // package and file name, such as "ledger/end.lua"
	text string
}

// find returns a file of the package or else of an imported package.
func (p *Package) find(name string) (file, error) {
	text, err := fs.ReadFile(p.files, name)
	if err == nil {
		return file{p.name + "/" + name, string(text)}, nil
	}
	for _, other := range p.imported {
		if f, err := other.find(name); err == nil {
			return f, nil
		}
	}
	return file{}, fmt.Errorf("%s: no Lua file %s", p.name, name)
}
