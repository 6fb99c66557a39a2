package request_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/request"
)

func TestContent_AppendStoredEqualsEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`https://[a-z]{1,9}\.example/[ -~]{0,9}`))
		c := request.Content{
			RedirectURL: word.Draw(t, "redirect"), WorkflowID: word.Draw(t, "workflow"), CallbackURL: word.Draw(t, "callback"),
			ExpiryMinutes: rapid.IntRange(0, 3).Draw(t, "expiry"), Row: rapid.IntRange(0, 2_000_000).Draw(t, "row"),
			DocumentOptional: rapid.SampledFrom([]*bool{nil, new(bool)}).Draw(t, "optional"), By: word.Draw(t, "by"), Trace: word.Draw(t, "trace"),
		}
		if rapid.Bool().Draw(t, "late") {
			c.NotAfter = time.UnixMilli(rapid.Int64Range(1_600_000_000_000, 1_900_000_000_000).Draw(t, "at")).UTC()
		}
		if rapid.Bool().Draw(t, "more") {
			value := map[string]string{word.Draw(t, "key"): word.Draw(t, "value")}
			raw, err := json.MarshalIndent(value, "", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent"))
			if err != nil {
				t.Fatal(err)
			}
			c.Metadata = raw
		}
		r := request.Record{State: request.Waiting, Lane: request.Bulk, AcceptedAt: at(0), ChangedAt: at(0), Content: c}
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.AppendStored([]byte("before"))
		if err != nil || !bytes.HasPrefix(got, []byte("before{")) || bytes.ContainsAny(got, "\n\r") {
			t.Fatalf("AppendStored returned %q, %v; want one line of JSON after the prefix", got, err)
		}
		var a, b any
		if err := json.Unmarshal(got[len("before"):], &a); err != nil {
			t.Fatalf("AppendStored wrote invalid JSON: %v: %s", err, got)
		}
		want := request.Body(encoded)
		if err := json.Unmarshal(want, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("AppendStored wrote %s, Encode %s", got, want)
		}
	})
}
