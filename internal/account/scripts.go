package account

import (
	"embed"

	"github.com/kyclink/kyclink/internal/lua"
)

//go:embed *.lua
var luaFiles embed.FS

// scripts are the Lua files of the package.
var scripts = lua.NewPackage("account", luaFiles)
