package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// fields returns a function that writes a name and its value in two columns, unless the
// value is empty.
func fields(w io.Writer) func(name, value string) {
	return func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
}

// number returns a number with a noun in the singular or the plural.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// moment formats a time in RFC 3339; the zero time is empty.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// reasonText returns a reason with its message, if it has one.
func reasonText(reason, message string) string {
	if reason == "" || message == "" {
		return reason
	}
	return reason + ": " + message
}
