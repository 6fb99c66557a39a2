package job

import (
	"crypto/rand"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NewBatchName returns a unique name for a new run's batch. People recognize the
// output file's name in it, if that can be displayed.
func NewBatchName(out string) string {
	label := filepath.Base(out)
	if len(label) > maxLabel || !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		label = "out"
	}
	return "run:" + label + ":" + rand.Text()
}

const maxLabel = 100 // bytes
