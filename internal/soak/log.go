package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// warnings returns the lines in the logs of all processes that should not be there, and how
// many say that a call was not sent in time.
func (r *rig) warnings() (found []string, late int, err error) {
	for _, p := range r.processes {
		log, err := os.Open(p.Log)
		if err != nil {
			return found, late, err
		}
		lines, n, err := unexpected(log, r.during)
		if err = errors.Join(err, log.Close()); err != nil {
			return found, late, err
		}
		for _, line := range lines {
			found = append(found, p.name+" logged "+line)
		}
		late += n
	}
	return found, late, nil
}

// notInTime is at the end of the message of a call whose grant had lapsed when it was to be
// sent, because the machine had not run the worker for 100 ms. Nothing is lost by it.
const notInTime = "(not sent in time after the grant)"

// unexpected returns the first lines of a log, apart from those of times that are excepted
// and of calls that were not sent in time, which it counts.
func unexpected(log io.Reader, excepted func(time.Time) bool) (lines []string, late int, err error) {
	all := bufio.NewScanner(log)
	all.Buffer(nil, mebibyte)
	for all.Scan() {
		var line struct {
			Time    time.Time
			Message string
		}
		structured := json.Unmarshal(all.Bytes(), &line) == nil
		switch {
		case structured && excepted(line.Time), strings.HasPrefix(all.Text(), "kyclink: SIMULATED:"): // the latter when a worker starts
		case structured && strings.HasSuffix(line.Message, notInTime):
			late++
		case len(lines) < mostProblems:
			lines = append(lines, all.Text())
		}
	}
	if err := all.Err(); err != nil {
		return lines, late, fmt.Errorf("read a log: %w", err)
	}
	return lines, late, nil
}
