package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// target is a platform.
type target struct{ os, arch string }

func targets() (all []target) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, arch := range []string{"amd64", "arm64"} {
			all = append(all, target{system, arch})
		}
	}
	return all
}

// program is the name of the binary.
func (t target) program() string {
	if t.os == "windows" {
		return "kyclink.exe"
	}
	return "kyclink"
}

// binary is the path of a platform's binary.
func (r release) binary(t target) string { return filepath.Join(r.work, t.os+"_"+t.arch, t.program()) }

// build builds the binary of a platform, without what the environment says of builds.
func (r release) build(ctx context.Context, t target) error {
	env := []string{"CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0"}
	_, err := command(ctx, env, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags", "-s -w -X main.version="+r.source.described,
		"-o", r.binary(t), "./cmd/kyclink")
	return err
}

// shells are those that kyclink completion knows, and the names of the scripts in an archive.
func shells() map[string]string {
	return map[string]string{"bash": "kyclink.bash", "fish": "kyclink.fish", "powershell": "kyclink.ps1", "zsh": "_kyclink"}
}

// describe writes the completions and the man pages, which are the same for all platforms.
func (r release) describe(ctx context.Context) error {
	own := r.binary(target{runtime.GOOS, runtime.GOARCH})
	if _, err := os.Stat(own); err != nil {
		return fmt.Errorf("a release cannot be built on %s/%s, where none of its binaries runs", runtime.GOOS, runtime.GOARCH)
	}
	for shell, name := range shells() {
		script, err := command(ctx, nil, own, "completion", shell)
		if err == nil {
			err = write(filepath.Join(r.work, "completions", name), string(script))
		}
		if err != nil {
			return err
		}
	}
	env := []string{"CGO_ENABLED=0", "GOFLAGS=", "TZ=UTC", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.source.epoch)}
	_, err := command(ctx, env, "go", "test", "-trimpath", "-vet=off", "-count=1", "./cmd/kyclink", "-man", filepath.Join(r.work, "man"))
	return err
}

// command runs a command with more variables, and returns what it writes. The error has what
// it wrote to standard error.
func command(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // a fixed list of programs, and those of the flags
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, exit.Stderr)
	}
	return out, err
}

// write writes a file, and its folder if there is none.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // it is published
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // it is published
}
