package redistest

import (
	"os/exec"
	"syscall"
)

// killWithParent makes the kernel kill the process when the thread that started it ends, so
// that a killed test binary leaves no server behind.
func killWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
