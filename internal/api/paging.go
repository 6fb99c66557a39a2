package api

import (
	"encoding/base64"
	"fmt"
	"strconv"
)

// defaultPage is the number of entries on a page if the query sets no limit.
const defaultPage = 100

// pageSize returns the limit that the query sets, from 1 to most.
func (c *call) pageSize(most int) (int, error) {
	text := c.r.URL.Query().Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return 0, malformed("limit", fmt.Sprintf("must be a whole number from 1 to %d", most))
	}
	return limit, nil
}

// cursor returns a cursor with a place in a list.
func cursor(place string) string { return base64.RawURLEncoding.EncodeToString([]byte(place)) }

// place returns the place in the cursor of the query; "" without a cursor.
func (c *call) place() (string, error) {
	text := c.r.URL.Query().Get("cursor")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || cursor(string(raw)) != text {
		return "", wrongCursor()
	}
	return string(raw), nil
}

// number is [call.place] of a list whose places are positive numbers; 0 without a cursor.
func (c *call) number() (int, error) {
	place, err := c.place()
	if err != nil || place == "" {
		return 0, err
	}
	n, err := strconv.Atoi(place)
	if err != nil || n < 1 || strconv.Itoa(n) != place {
		return 0, wrongCursor()
	}
	return n, nil
}

func wrongCursor() *problem {
	return malformed("cursor", "must be the value of next in an earlier response")
}
