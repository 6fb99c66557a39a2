package request_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestMain(m *testing.M) { fixture.Main(m) }

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// full returns a record in which every column and every line has a different value,
// so that a test notices if two are swapped.
func full() request.Record {
	option := true
	return request.Record{
		ApplicationID: "A-1", State: request.Created, Lane: request.Interactive, CancelAsked: true,
		Generation: 2, Run: 3, Turn: 4, Attempts: 5, Charged: 6, PossibleDuplicates: 7, Batch: 8, Seen: 9,
		AcceptedAt: at(1_790_000_000_123), ChangedAt: at(1_790_000_060_456), Holder: 10, Deadline: true,
		Content: request.Content{
			RedirectURL: "https://shop.example/done", ExpiryMinutes: 60, DocumentOptional: &option, WorkflowID: "wf-1",
			CallbackURL: "https://shop.example/hooks", NotAfter: at(1_800_000_000_000), Metadata: json.RawMessage(`{"customer":"42"}`),
		},
		Resolved: request.Defaults{ExpiryMinutes: 1440, WorkflowID: "wf-0"},
		Outcome: request.Outcome{
			Run: 3, Status: request.Created, LinkID: "link-1", URL: "https://kyc.example/link-1",
			ExpiresAt: at(1_790_003_600_000), EndedAt: at(1_790_000_060_456),
		},
		Past: []request.Outcome{
			{Run: 1, Status: request.Failed, Reason: "upstream_error", Message: "HTTP 500", EndedAt: at(1_790_000_001_000)},
			{Run: 2, Status: request.Created, LinkID: "link-0", URL: "https://kyc.example/link-0", Late: true},
		},
	}
}

func version1(t rapid.TB, raw []byte) []byte {
	t.Helper()
	old, err := fixture.Version1(raw)
	if err != nil {
		t.Fatal(err)
	}
	return old
}

func waiting() request.Record {
	return request.Record{
		ApplicationID: "A-2", State: request.Waiting, Lane: request.Bulk, Generation: 1, Run: 1,
		AcceptedAt: at(1_790_000_000_123), ChangedAt: at(1_790_000_000_123),
	}
}

func TestRecord_EncodesAsGoldenFile(t *testing.T) {
	var got strings.Builder
	for _, r := range []request.Record{full(), waiting()} {
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s\n\n", raw)
	}
	if *update {
		if err := os.WriteFile("testdata/record.golden", []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/record.golden")
	if err != nil || got.String() != string(want) {
		t.Errorf("the stored format differs from testdata/record.golden (%v): got\n%s\nwant\n%s", err, got.String(), want)
	}
}

func drawOutcome(t *rapid.T, label string) request.Outcome {
	return rapid.Custom(func(t *rapid.T) request.Outcome {
		o := request.Outcome{
			Run:    rapid.IntRange(1, 999).Draw(t, "run"),
			Status: rapid.SampledFrom(request.States[:]).Draw(t, "status"),
			LinkID: rapid.String().Draw(t, "link id"), Message: rapid.String().Draw(t, "message"),
			Late: rapid.Bool().Draw(t, "late"),
		}
		if rapid.Bool().Draw(t, "ended") {
			o.EndedAt = at(rapid.Int64Range(0, 9_999_999_999_999).Draw(t, "ended at"))
		}
		return o
	}).Draw(t, label)
}

// drawRecord draws a record whose numbers are often at the limits of their columns.
func drawRecord(t *rapid.T) request.Record {
	number := func(label string, most int) int {
		return rapid.OneOf(rapid.SampledFrom([]int{0, 1, most - 1, most}), rapid.IntRange(0, most)).Draw(t, label)
	}
	r := request.Record{
		ApplicationID: "A-1",
		State:         rapid.SampledFrom(request.States[:]).Draw(t, "state"),
		Lane:          rapid.SampledFrom([]request.Lane{request.Interactive, request.Bulk}).Draw(t, "lane"),
		CancelAsked:   rapid.Bool().Draw(t, "cancel"), Deadline: rapid.Bool().Draw(t, "deadline"),
		Generation: number("generation", 999), Run: number("run", 999), Turn: number("turn", 9999),
		Attempts: number("attempts", 99999), Charged: number("charged", 99), PossibleDuplicates: number("duplicates", 9999),
		Batch: number("batch", 999999), Seen: number("seen", 9999999999), Holder: number("holder", 999999),
		AcceptedAt: at(int64(number("accepted", 9999999999999))), ChangedAt: at(int64(number("changed", 9999999999999))),
		Content: request.Content{
			WorkflowID: rapid.String().Draw(t, "workflow"), ExpiryMinutes: rapid.IntRange(0, 99).Draw(t, "expiry"),
			Metadata: rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`{"a":"\n"}`)}).Draw(t, "metadata"),
		},
	}
	if rapid.Bool().Draw(t, "resolved") {
		r.Resolved.ExpiryMinutes = 1440
	}
	if rapid.Bool().Draw(t, "outcome") {
		r.Outcome = drawOutcome(t, "outcome of")
	}
	for range rapid.IntRange(0, 2).Draw(t, "past") {
		r.Past = append(r.Past, drawOutcome(t, "past of"))
	}
	return r
}

func TestParse_ReturnsEncodedRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		raw, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := request.Parse("A-1", raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v\nfrom %s", err, got, want, raw)
		}
	})
}

// newRecord is a record as it is stored when a row of a batch is accepted.
const newRecord = `n0000081790000000123{"u":"https://shop.example/done","e":60,"d":false,"w":"wf-1","c":"https://shop.example/hooks","m":{"r":5},"k":"key-1","r":7}`

func TestParse_ReadsNewRecords(t *testing.T) {
	want := request.Record{
		ApplicationID: "A-1", State: request.Waiting, Lane: request.Bulk, Generation: 1, Run: 1, Batch: 8,
		AcceptedAt: at(1_790_000_000_123), ChangedAt: at(1_790_000_000_123),
		Content: request.Content{
			RedirectURL: "https://shop.example/done", ExpiryMinutes: 60, DocumentOptional: new(bool), WorkflowID: "wf-1",
			CallbackURL: "https://shop.example/hooks", Metadata: json.RawMessage(`{"r":5}`), By: "key-1", Row: 7,
		},
	}
	if got, err := request.Parse("A-1", []byte(newRecord)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
}

// Records of earlier versions stay readable.
func TestParse_ReadsVersion1(t *testing.T) {
	stored, err := os.ReadFile("testdata/version1.golden")
	if err != nil {
		t.Fatal(err)
	}
	for raw := range strings.SplitSeq(strings.TrimSpace(string(stored)), "\n\n") {
		want := full()
		if strings.HasPrefix(raw, "1wb") {
			want = waiting()
		}
		if got, err := request.Parse(want.ApplicationID, []byte(raw)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v\n got %+v\nwant %+v\nfrom %s", err, got, want, raw)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		raw, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		old := version1(t, raw)
		got, err := request.Parse("A-1", old)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v\nfrom %s", err, got, want, old)
		}
	})
}

func TestEncode_CapsCountersAndRefusesOtherValuesThatExceedTheirColumn(t *testing.T) {
	r := full()
	r.Attempts, r.Charged, r.PossibleDuplicates, r.Seen = 100_000, 100, 10_000, 10_000_000_000
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := request.Parse("A-1", raw); err != nil || got.Attempts != 99_999 || got.Charged != 99 ||
		got.PossibleDuplicates != 9999 || got.Seen != 9_999_999_999 || got.Batch != r.Batch {
		t.Errorf("counters that exceed their columns were read as %+v, %v; want the highest values", got, err)
	}
	for name, change := range map[string]func(*request.Record){
		"generation 1000": func(r *request.Record) { r.Generation = 1000 },
		"run 1000":        func(r *request.Record) { r.Run = 1000 },
		"turn 10000":      func(r *request.Record) { r.Turn = 10_000 },
		"batch 1000000":   func(r *request.Record) { r.Batch = 1_000_000 },
		"holder 1000000":  func(r *request.Record) { r.Holder = 1_000_000 },
		"negative run":    func(r *request.Record) { r.Run = -1 },
		"negative count":  func(r *request.Record) { r.Charged = -1 },
		"no time":         func(r *request.Record) { r.AcceptedAt = time.Time{} },
		"no state":        func(r *request.Record) { r.State = "" },
		"no lane":         func(r *request.Record) { r.Lane = "" },
		// The header has the right length although both columns are wrong.
		"wide and narrow": func(r *request.Record) { r.Run, r.ChangedAt = 1000, at(-1) },
	} {
		r := full()
		change(&r)
		if raw, err := r.Encode(); err == nil {
			t.Errorf("%s: encoded as %s, want an error", name, raw)
		}
	}
}

func TestParse_RefusesDamagedRecords(t *testing.T) {
	good, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	asNew := func(raw string) func([]byte) []byte { return func([]byte) []byte { return []byte(raw) } }
	for want, change := range map[string]func(raw []byte) []byte{
		"than its header": asNew("n000008179000000012"),
		"column 2":        asNew("n00000-1790000000123{}"),
		"column 8 is not": asNew("n0000081790000 00123{}"),
		"line 1:":         asNew("n0000081790000000123["),
		"shorter than":    func(raw []byte) []byte { return raw[:request.HeaderLen-1] },
		"version '9'":     func(raw []byte) []byte { raw[0] = '9'; return raw },
		"unknown state":   func(raw []byte) []byte { raw[1] = 'z'; return raw },
		"or lane":         func(raw []byte) []byte { raw[2] = 'z'; return raw },
		`flag 'z'`:        func(raw []byte) []byte { raw[3] = 'z'; return raw },
		"column 5":        func(raw []byte) []byte { raw[4] = '-'; return raw },
		"column 8":        func(raw []byte) []byte { raw[7] = '+'; return raw },
		"column 68":       func(raw []byte) []byte { raw[72] = ' '; return raw },
		"unknown flag 'y": func(raw []byte) []byte { raw[73] = 'y'; return raw },
		"line 1":          func(raw []byte) []byte { raw[request.HeaderLen] = '['; return raw },
	} {
		_, err := request.Parse("A-1", change([]byte(string(good))))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "link-1") {
			t.Errorf("got error %v; want one that contains %q and nothing of the record", err, want)
		}
	}
}

func TestParseRef_ReadsOnlyWhatStringWrites(t *testing.T) {
	if got := full().Ref().String(); got != "A-1:2:3:4" {
		t.Errorf("the id of the task is %s, want A-1:2:3:4", got)
	}
	for _, s := range []string{"", "A", ":1:1:1", "A:1:1", "A:1:1:", "A:1:1:-1", "A:1:1:+1", "A:01:1:1", "A:1:1:99999999999", "A:1:1:1 "} {
		if ref, err := request.ParseRef(s); err == nil {
			t.Errorf("%q was read as %+v, want an error", s, ref)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := request.Ref{
			ApplicationID: rapid.StringN(1, 128, -1).Draw(t, "id"), Generation: rapid.IntRange(0, 999).Draw(t, "generation"),
			Run: rapid.IntRange(0, 999).Draw(t, "run"), Turn: rapid.IntRange(0, 9999).Draw(t, "turn"),
		}
		if got, err := request.ParseRef(want.String()); err != nil || got != want {
			t.Fatalf("%v was read as %v, %v", want, got, err)
		}
	})
}

func FuzzParseRef(f *testing.F) {
	f.Add("A-1:1:2:3")
	f.Add("urn:x:1:2:3")
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := request.ParseRef(s); err == nil && ref.String() != s {
			t.Errorf("%q was read as a reference that is written %q", s, ref)
		}
	})
}

func FuzzParse(f *testing.F) {
	raw, err := full().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:request.HeaderLen])
	f.Add(append(raw, "\n\n{}\n"...))
	f.Add(version1(f, raw))
	f.Add([]byte(newRecord))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := request.Parse("A-1", raw)
		if err != nil {
			return
		}
		once, err := r.Encode()
		if err != nil {
			t.Fatalf("encode the parsed record %+v: %v", r, err)
		}
		again, err := request.Parse("A-1", once)
		if err != nil {
			t.Fatalf("parse the encoded record %s: %v", once, err)
		}
		if twice, err := again.Encode(); err != nil || string(once) != string(twice) {
			t.Fatalf("the record was encoded as\n%s\nand, parsed again, as\n%s, %v", once, twice, err)
		}
	})
}

// Receivers recognize repeated events by their id, so it must not change between versions.
func TestEventID_IsStableAndDiffersForEachRun(t *testing.T) {
	r := full()
	if got := r.EventID("default").String(); got != "b0886c77-8e64-539d-9d71-734fc184653f" {
		t.Errorf("the event id is %s, which differs from that of other versions", got)
	}
	ids := map[string]string{}
	for name, change := range map[string]func(*request.Record){
		"same": func(*request.Record) {}, "id": func(r *request.Record) { r.ApplicationID = "A-2" },
		"generation": func(r *request.Record) { r.Generation++ }, "run": func(r *request.Record) { r.Run++ },
		"accepted": func(r *request.Record) { r.AcceptedAt = r.AcceptedAt.Add(time.Millisecond) },
	} {
		r := full()
		change(&r)
		id := r.EventID("default").String()
		if other, taken := ids[id]; taken {
			t.Errorf("%s and %s have the same event id", name, other)
		}
		ids[id] = name
	}
}
