// Package script composes the scripts of the packages that change requests from the
// libraries that these share.
package script

import (
	_ "embed"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

//go:embed prelude.lua
var prelude string

//go:embed readable.lua
var readable string

// New returns a script that may use the shared libraries and, after them, others.
func New(text string, others ...string) *redis.Script {
	return lua.Script(text, append([]string{request.Prelude, admission.Lua, prelude, readable}, others...)...)
}
