package admission

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is N calls per second, minute or hour. The zero value is not a rate.
type Rate struct {
	N   int
	Per time.Duration // time.Second, time.Minute or time.Hour
}

// maxN keeps the time of a token above a few microseconds, the resolution of the clock.
const maxN = 100_000

func units() map[string]time.Duration {
	return map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}
}

// ParseRate reads "20/s", "90/m" or "500/h": a whole number from 1 to 100000
// per second, minute or hour. The error says what is expected.
func ParseRate(text string) (Rate, error) {
	number, unit, _ := strings.Cut(text, "/")
	per, known := units()[unit]
	n, err := strconv.Atoi(number)
	if err != nil || !known || n < 1 || n > maxN || strconv.Itoa(n) != number {
		return Rate{}, fmt.Errorf("%q is not a rate: give N/s, N/m or N/h, with a whole number N from 1 to %d", text, maxN)
	}
	return Rate{n, per}, nil
}

// String returns the rate as [ParseRate] reads it; "" for the zero value.
func (r Rate) String() string {
	for unit, per := range units() {
		if r.Per == per {
			return strconv.Itoa(r.N) + "/" + unit
		}
	}
	return ""
}
