package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithUs lets the process end when the thread that started it does, so that
// nothing is left where a test binary is killed.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
