package admission

import (
	"embed"

	"github.com/kyclink/kyclink/internal/lua"
)

//go:embed *.lua
var luaFiles embed.FS

// Lua contains the decision as libraries for the scripts of other packages: admission.lua
// admits a call, signals.lua processes its outcome, watch.lua detects calls that hang, and
// worker_rate.lua sets the rate of a worker that joins.
var Lua = lua.NewPackage("admission", luaFiles)

var (
	pauseScript        = Lua.Script("pause.lua")
	resumeScript       = Lua.Script("resume.lua")
	overrideRateScript = Lua.Script("override_rate.lua")
	resetRateScript    = Lua.Script("reset_rate.lua")
)
