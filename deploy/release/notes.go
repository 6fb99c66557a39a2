package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// notes returns the notes of the release. A tag needs a section of its own in the changelog;
// other commits have the changes since the last one, if there are any.
func (r release) notes() (string, error) {
	changelog, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return "", err
	}
	if r.source.tagged {
		return section(string(changelog), r.source.version)
	}
	text, err := section(string(changelog), "Unreleased")
	if err != nil {
		return "Not published.\n", nil //nolint:nilerr // nothing has changed since the last version
	}
	return "Not published.\n\n" + text, nil
}

// linkTargets are at the end of a changelog, under its last section.
var linkTargets = regexp.MustCompile(`(?m)^\[[^\]]+\]: .*\n?`)

// section returns what a changelog says of a version, without the heading.
func section(changelog, version string) (string, error) {
	heading := "## [" + version + "]"
	_, rest, found := strings.Cut("\n"+changelog, "\n"+heading)
	if !found {
		return "", fmt.Errorf("CHANGELOG.md has no section %s; add it, or move the tag", heading)
	}
	_, rest, _ = strings.Cut(rest, "\n") // the date
	text, _, _ := strings.Cut("\n"+rest, "\n## ")
	text = strings.TrimSpace(linkTargets.ReplaceAllString(text, ""))
	if text == "" {
		return "", fmt.Errorf("the section %s of CHANGELOG.md is empty; say what users will notice", heading)
	}
	return text + "\n", nil
}
