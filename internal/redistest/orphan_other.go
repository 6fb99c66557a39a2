//go:build !linux

package redistest

import "os/exec"

// killWithParent does nothing, because only Linux supports it.
func killWithParent(*exec.Cmd) {}
