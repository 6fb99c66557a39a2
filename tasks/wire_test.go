package tasks_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// expectGolden compares values with a golden file. A difference breaks programs that read them.
func expectGolden(t *testing.T, name string, values ...any) {
	t.Helper()
	var got bytes.Buffer
	for _, v := range values {
		enc := json.NewEncoder(&got)
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got.String() != string(want) {
		t.Errorf("the JSON differs from %s (%v): got\n%s\nwant\n%s", file, err, got.String(), want)
	}
}

var (
	option     = false
	accepted   = time.Date(2026, 11, 23, 10, 0, 0, 123e6, time.UTC)
	everything = tasks.Request{
		ApplicationID: "A-1001", RedirectURL: "https://shop.example/done?a=1&b=2", ExpiryMinutes: 1440, DocumentOptional: &option,
		WorkflowID: "wf-1", Lane: tasks.Interactive, CallbackURL: "https://shop.example/hooks/kyc",
		NotAfter: accepted.Add(time.Hour), Generation: 2, Metadata: json.RawMessage(`{"customer":"42"}`),
	}
)

func TestRequest_JSONMatchesGoldenFileAndKeys(t *testing.T) {
	t.Parallel()
	expectGolden(t, "request", everything, tasks.Request{ApplicationID: "A-1001"})
	raw, err := json.Marshal(everything)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tasks.ParseRequest(raw); err != nil || !reflect.DeepEqual(got, everything) {
		t.Errorf("%s was parsed as %+v, %v", raw, got, err)
	}
	var keys []string
	for field := range reflect.TypeFor[tasks.Request]().Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		keys = append(keys, key)
	}
	if !reflect.DeepEqual(tasks.Keys(), keys) {
		t.Errorf("Keys returned %v, want those of the JSON, %v", tasks.Keys(), keys)
	}
}

func TestLink_JSONMatchesGoldenFileAndPackageLinkview(t *testing.T) {
	t.Parallel()
	r := request.Record{
		ApplicationID: "A-1001", State: request.Created, Lane: request.Bulk, Generation: 2, Run: 3, Turn: 4, Attempts: 5,
		PossibleDuplicates: 1, Batch: 7, AcceptedAt: accepted, ChangedAt: accepted.Add(time.Minute),
		Content: request.Content{Metadata: json.RawMessage(`{"customer":"42"}`)},
		Outcome: request.Outcome{
			Run: 3, Status: request.Created, LinkID: "link-1", URL: "https://kyc.example/link-1",
			ExpiresAt: accepted.Add(time.Hour), EndedAt: accepted.Add(time.Minute),
		},
	}
	failed := r
	failed.State, failed.Outcome = request.Failed, request.Outcome{Status: request.Failed, Reason: "timeout", Message: "no answer within 30s"}
	waiting := request.Record{ApplicationID: "A-1", State: request.Waiting, Lane: request.Bulk, Generation: 1, Run: 1, AcceptedAt: accepted}
	type input struct {
		record request.Record
		batch  string
		now    time.Time
	}
	links := []any{}
	for _, i := range []input{
		{r, "spring", accepted.Add(time.Hour - 1)},
		{r, "spring", accepted.Add(time.Hour)}, // the link expires at this time
		{failed, "spring", accepted},
		{waiting, "", accepted},
	} {
		link := tasks.LinkOf(&i.record, i.batch, i.now)
		if same := linkview.Of(i.record, i.batch, i.now); !reflect.DeepEqual(link, same) {
			t.Errorf("package linkview returns %+v, package tasks %+v", same, link)
		}
		links = append(links, link)
	}
	expectGolden(t, "link", links...)
}

// entry returns an entry of the results stream as the ledger's scripts write it.
func entry() map[string]any {
	return map[string]any{
		"id": "b0886c77-8e64-539d-9d71-734fc184653f", "type": "link.created", "timestamp": "2026-11-23T10:00:00.123Z",
		"application_id": "A-1001",
		"data": `{"application_id":"A-1001","generation":2,"run":3,"batch":"spring","link_id":"link-1","url":"https://kyc.example/link-1",` +
			`"expires_at":"2026-11-23T11:00:00.000Z","attempts":5,"possible_duplicates":1,"metadata":{"customer":"42"}}`,
	}
}

func TestParseEvent_MatchesGoldenFile(t *testing.T) {
	t.Parallel()
	created, err := tasks.ParseEvent(entry())
	if err != nil {
		t.Fatal(err)
	}
	if created.ID != "b0886c77-8e64-539d-9d71-734fc184653f" || created.Replay {
		t.Errorf("got event %+v, want no replay with the id of the entry", created)
	}
	failed := entry()
	failed["type"], failed["replay"] = "link.failed", "1"
	failed["later"] = "a field of a later version"
	failed["data"] = `{"application_id":"A-1001","generation":1,"run":1,"reason":"timeout","message":"no answer","attempts":8,"possible_duplicates":8,"later":{}}`
	replayed, err := tasks.ParseEvent(failed)
	if err != nil || !replayed.Replay {
		t.Errorf("got event %+v, %v; want a replay", replayed, err)
	}
	held := entry()
	held["type"] = "link.held"
	held["data"] = `{"application_id":"A-1001","generation":1,"run":1,"batch":"spring","reason":"unknown_outcome",` +
		`"message":"FaceKi did not answer in time","attempts":1,"possible_duplicates":1}`
	parsed, err := tasks.ParseEvent(held)
	if err != nil {
		t.Error(err)
	}
	expectGolden(t, "event", created, replayed, parsed)
}

func TestParseEvent_RefusesMissingAndWrongFields(t *testing.T) {
	t.Parallel()
	for field, values := range map[string][]any{
		"id": {nil, ""}, "type": {nil, "", 1}, "timestamp": {nil, "", "yesterday"}, "data": {nil, "", "[]", `{"attempts":"x","url":"https://kyc.example/secret"}`},
	} {
		for _, v := range values {
			values := entry()
			values[field] = v
			if e, err := tasks.ParseEvent(values); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s=%v: got %+v, %v; want an error without the data", field, v, e, err)
			}
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	field := func(name string) string { return entry()[name].(string) }
	f.Add(field("id"), field("type"), field("timestamp"), "1", field("data"))
	f.Add("", "x", "2026", "0", "{}")
	f.Fuzz(func(t *testing.T, id, kind, timestamp, replay, data string) {
		read := func(data string) (tasks.Event, error) {
			return tasks.ParseEvent(map[string]any{"id": id, "type": kind, "timestamp": timestamp, "replay": replay, "data": data})
		}
		e, err := read(data)
		if err != nil {
			return
		}
		once, err := json.Marshal(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := read(string(once))
		if err != nil {
			t.Fatalf("parse the encoded data %s: %v", once, err)
		}
		if twice, err := json.Marshal(again.Data); err != nil || string(once) != string(twice) {
			t.Fatalf("the data was encoded as\n%s\nand, parsed again, as\n%s, %v", once, twice, err)
		}
	})
}
