package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// source is the commit that is released.
type source struct {
	described string // by git; kyclink version shows it
	version   string // in the names of files and packages
	tagged    bool
	epoch     int64 // when it was committed: the time of all files
}

// readSource describes the commit that is checked out. It refuses changes that are not
// committed, because nobody could build the same again.
func readSource(ctx context.Context) (s source, err error) {
	changes, err := git(ctx, "status", "--porcelain")
	if err != nil {
		return s, err
	}
	if changes != "" {
		return s, errors.New("a release is built from a commit; commit or remove these changes:\n" + changes)
	}
	// The default length of a hash depends on the number of objects in the clone.
	if s.described, err = git(ctx, "describe", "--tags", "--always", "--abbrev=12", "--match", "v[0-9]*"); err != nil {
		return s, err
	}
	tag, err := git(ctx, "describe", "--tags", "--exact-match", "--match", "v[0-9]*")
	s.tagged = err == nil && tag == s.described
	if s.version, err = versionOf(s.described, s.tagged); err != nil {
		return s, err
	}
	seconds, err := git(ctx, "log", "-1", "--format=%ct")
	if err != nil {
		return s, err
	}
	s.epoch, err = strconv.ParseInt(seconds, 10, 64)
	return s, err
}

var (
	tagName   = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$`)
	afterATag = regexp.MustCompile(`^v(\d+\.\d+\.\d+.*)-(\d+)-g([0-9a-f]+)$`)
)

// versionOf returns the version of a commit by its description: that of its tag, or one that
// sorts between the tag before it and the next one.
func versionOf(described string, tagged bool) (string, error) {
	if tagged {
		if !tagName.MatchString(described) {
			return "", fmt.Errorf("the tag %s is not a version; name it like v1.2.3 or v1.2.3-rc.1", described)
		}
		return strings.TrimPrefix(described, "v"), nil
	}
	if m := afterATag.FindStringSubmatch(described); m != nil {
		return m[1] + "+" + m[2] + "." + m[3], nil
	}
	return "0.0.0+" + described, nil
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := command(ctx, nil, "git", args...)
	return strings.TrimRight(string(out), "\n"), err
}
