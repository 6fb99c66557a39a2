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

// fields writes names and values in two columns, and leaves out empty values.
func fields(w io.Writer) func(name, value string) {
	return func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
}

// number is a number of things, in the singular or the plural.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// moment is a time in RFC 3339, "" for the zero time.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// reasonText is a reason with its message, if there is one.
func reasonText(reason, message string) string {
	if reason == "" || message == "" {
		return reason
	}
	return reason + ": " + message
}
