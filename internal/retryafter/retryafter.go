// Package retryafter parses the Retry-After header of HTTP responses, of FaceKi and of
// callback receivers.
package retryafter

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// seconds matches a header that is a number and not a date. Fractions are not standard, but
// some servers send them.
var seconds = regexp.MustCompile(`^(\d+\.?\d*|\.\d+)$`)

// Parse returns how long the header asks to wait from now on, limited to most. It returns
// 0 if the header is absent, invalid or negative, or names a time in the past.
func Parse(header string, now time.Time, most time.Duration) time.Duration {
	header = strings.TrimSpace(header)
	if seconds.MatchString(header) {
		n, _ := strconv.ParseFloat(header, 64) // +Inf if there are too many digits
		if n >= most.Seconds() {
			return most
		}
		return time.Duration(n * float64(time.Second))
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), most)
}
