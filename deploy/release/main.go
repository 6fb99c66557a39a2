// Command release builds what is published of a version, from the commit that is checked
// out: archives for every platform, packages, SBOMs, checksums and notes. The same commit
// and the same version of Go make the same bytes. See make release.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

// release is what is built, and from what.
type release struct {
	source source
	out    string // the folder of what is published
	work   string // a folder of what goes into it
	tools  tools
}

// tools are the paths of programs that are installed by the Makefile.
type tools struct{ nfpm, cyclonedx string }

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := release{}
	flag.StringVar(&r.out, "out", "dist", "`folder` that is replaced by the result")
	flag.StringVar(&r.tools.nfpm, "nfpm", "", "nfpm; without it no packages are made")
	flag.StringVar(&r.tools.cyclonedx, "cyclonedx-gomod", "", "cyclonedx-gomod")
	flag.Parse()
	if err := r.make(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		return 1
	}
	return 0
}

func (r release) make(ctx context.Context) (err error) {
	if r.source, err = readSource(ctx); err != nil {
		return err
	}
	text, err := r.notes()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "kyclink-release-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.work) }()
	if err := os.MkdirAll(r.out, 0o755); err != nil { //nolint:gosec // it is published
		return err
	}
	for _, t := range targets() {
		progress("build", t)
		if err := r.build(ctx, t); err != nil {
			return err
		}
	}
	if err := r.describe(ctx); err != nil {
		return err
	}
	for _, t := range targets() {
		if err := r.publish(ctx, t); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(r.out, "NOTES.md"), text); err != nil {
		return err
	}
	return r.checksums()
}

// publish makes everything of one platform from its binary.
func (r release) publish(ctx context.Context, t target) error {
	progress("pack", t)
	if err := r.archive(t); err != nil {
		return err
	}
	if err := r.sbom(ctx, t); err != nil {
		return err
	}
	if t.os != "linux" {
		return nil
	}
	return r.packages(ctx, t)
}

func progress(step string, t target) { fmt.Printf("%s %s/%s\n", step, t.os, t.arch) }

// name is the beginning of the names of the files of a platform.
func (r release) name(t target) string {
	return fmt.Sprintf("kyclink_%s_%s_%s", r.source.version, t.os, t.arch)
}
