package tasks

import (
	"embed"

	"github.com/kyclink/kyclink/internal/lua"
)

//go:embed *.lua
var luaFiles embed.FS

// scripts are the Lua files of the package.
var scripts = lua.NewPackage("tasks", luaFiles)

var (
	acceptScript              = scripts.Script("accept.lua")
	acceptNewScript           = scripts.Script("accept_new.lua")
	openBatchScript           = scripts.Script("open_batch.lua")
	removeIdleConsumersScript = scripts.Script("remove_idle_consumers.lua")
)
