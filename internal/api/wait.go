package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWait is the maximum time that a request waits for its link.
const maxWait = 30 * time.Second

// preferredWait returns the wait of Prefer: wait=N (RFC 7240), at most maxWait. It is 0
// without a valid preference.
func preferredWait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";") // without parameters
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			value = strings.TrimSpace(value)
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			seconds, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return 0 // only the first preference counts
			}
			return min(time.Duration(seconds)*time.Second, maxWait)
		}
	}
	return 0
}

// setPreferenceApplied tells the client the maximum wait that was applied.
func setPreferenceApplied(h http.Header, wait time.Duration) {
	h.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait.Seconds())))
}
