package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

type packageConfig struct {
	Scripts  map[string]string
	Contents []struct {
		Src, Dst, Type, Packager string
		Expand                   bool
		Info                     struct{ Mode int } `json:"file_info"`
	}
}

func readPackages(t *testing.T) (p packageConfig) {
	t.Helper()
	text, err := os.ReadFile("packages.yaml")
	must(t, err)
	must(t, yaml.Unmarshal(text, &p))
	return p
}

// A package starts nothing by itself. The units find the program, their settings and their
// secrets where the package puts them, or where only root can.
func TestPackages_HaveWhatTheUnitsNeed(t *testing.T) {
	t.Parallel()
	p := readPackages(t)
	if len(p.Scripts) > 0 {
		t.Errorf("the packages run scripts: %v", p.Scripts)
	}
	destinations := map[string]int{}
	for _, c := range p.Contents {
		destinations[c.Dst] = c.Info.Mode
	}
	folder, err := os.ReadDir("../systemd")
	must(t, err)
	for _, file := range folder {
		if !strings.HasSuffix(file.Name(), ".service") {
			continue
		}
		if _, packed := destinations["/usr/lib/systemd/system/"+file.Name()]; !packed {
			t.Errorf("the packages lack %s", file.Name())
		}
		unit, err := os.ReadFile("../systemd/" + file.Name())
		must(t, err)
		for _, m := range regexp.MustCompile(`(?m)^(?:ExecStart=|EnvironmentFile=-)(\S+)`).FindAllSubmatch(unit, -1) {
			if _, packed := destinations[string(m[1])]; !packed {
				t.Errorf("%s needs %s, which the packages lack", file.Name(), m[1])
			}
		}
	}
	if mode := destinations["/etc/kyclink"]; mode != 0o700 {
		t.Errorf("the folder of the secrets has mode %o", mode)
	}
}

func TestPackages_SourcesExist(t *testing.T) {
	t.Parallel()
	var made []string
	for _, name := range shells() {
		made = append(made, "${WORK}/completions/"+name)
	}
	made = append(made, "${BINARY}", "${WORK}/man/*.1")
	for _, c := range readPackages(t).Contents {
		switch {
		case c.Type == "dir":
		case c.Expand:
			if !slices.Contains(made, c.Src) {
				t.Errorf("%s is not made by a release", c.Src)
			}
		default:
			if _, err := os.Stat("../../" + c.Src); err != nil {
				t.Error(err)
			}
		}
		if c.Info.Mode == 0 {
			t.Errorf("%s has the mode of the file that was copied", c.Dst)
		}
	}
}
