// Package retryafter reads the Retry-After header of an HTTP answer, from
// FaceKi and from receivers of callbacks alike.
package retryafter

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// seconds is what the header may hold besides a date. Fractions are not standard,
// and are sent.
var seconds = regexp.MustCompile(`^(\d+\.?\d*|\.\d+)$`)

// Parse gives how long the header asks to wait from now on, at most most. It is 0 if
// the header is absent, cannot be read, is negative or names a time that has passed.
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
