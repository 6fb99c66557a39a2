package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDashboards_AreThoseOfTheCode(t *testing.T) {
	for name, d := range dashboards() {
		want, err := encode(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s differs from the code; run make dashboards", name)
		}
	}
	all, err := filepath.Glob(filepath.Join("..", "*.json"))
	if err != nil || len(all) != len(dashboards()) {
		t.Errorf("got the files %v, %v; want those of %d dashboards", all, err, len(dashboards()))
	}
}
