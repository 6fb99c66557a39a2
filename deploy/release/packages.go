package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// packages makes the packages of Linux distributions. Without nfpm, there are none.
func (r release) packages(ctx context.Context, t target) error {
	if r.tools.nfpm == "" {
		return nil
	}
	env := []string{
		"VERSION=" + r.source.version, "ARCH=" + t.arch, "BINARY=" + r.binary(t), "WORK=" + r.work,
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.source.epoch),
	}
	for _, format := range []string{"deb", "rpm"} {
		file := filepath.Join(r.out, r.name(t)+"."+format)
		if _, err := command(ctx, env, r.tools.nfpm, "package", "--config", "deploy/release/packages.yaml", "--packager", format, "--target", file); err != nil {
			return err
		}
	}
	return nil
}

// sbom writes what is in the binary of a platform, as CycloneDX.
func (r release) sbom(ctx context.Context, t target) error {
	_, err := command(ctx, nil, r.tools.cyclonedx, "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", r.source.described,
		"-output", filepath.Join(r.out, r.name(t)+".cdx.json"), r.binary(t))
	return err
}

// checksums writes the checksums of everything, as sha256sum does.
func (r release) checksums() error {
	files, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(r.out, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), f.Name())
	}
	return write(filepath.Join(r.out, "SHA256SUMS"), sums.String())
}
