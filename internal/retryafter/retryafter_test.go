package retryafter

import (
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func TestParse_ReadsSecondsAndDatesUpToTheLimit(t *testing.T) {
	const most = time.Hour
	for header, want := range map[string]time.Duration{
		"": 0, " ": 0, "0": 0, "soon": 0, "7 s": 0, "1e3": 0, "0x10": 0, "NaN": 0, "Inf": 0, "+7": 0, "1_000": 0, ".": 0, "1.2.3": 0,
		"-7": 0, "-0.5": 0, "-99999999999999999999": 0,
		"7": 7 * time.Second, " 30 ": 30 * time.Second, "007": 7 * time.Second,
		"1.5": 1500 * time.Millisecond, "0.0001": 100 * time.Microsecond, ".25": 250 * time.Millisecond, "2.": 2 * time.Second,
		"3599": 3599 * time.Second, "3600": most, "86400": most,
		"2147483647": most, "2147483648": most, "4294967296": most, "9223372036854775808": most, "99999999999999999999999": most,
		strings.Repeat("9", 400): most, "2147483648.5": most,
		"Mon, 23 Nov 2026 10:00:09 GMT":  9 * time.Second,
		"Monday, 23-Nov-26 10:00:09 GMT": 9 * time.Second,
		"Mon Nov 23 10:00:09 2026":       9 * time.Second,
		"Mon, 23 Nov 2026 09:00:00 GMT":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":  most,
		"Thu, 01 Jan 1970 00:00:00 GMT":  0,
	} {
		if got := Parse(header, now, most); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, header := range []string{"", "7", "-7", "1.5", "4294967296", "Mon, 23 Nov 2026 10:00:09 GMT"} {
		f.Add(header, int64(time.Hour))
	}
	f.Fuzz(func(t *testing.T, header string, most int64) {
		if most < 0 {
			return
		}
		if got := Parse(header, now, time.Duration(most)); got < 0 || got > time.Duration(most) {
			t.Errorf("%q: got %v, want from 0 to %v", header, got, time.Duration(most))
		}
	})
}
