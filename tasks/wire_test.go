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

// golden pins what others read: a change here is a change of the contract.
func golden(t *testing.T, name string, values ...any) {
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
		t.Errorf("%v; %s reads\n%s\nwant\n%s", err, name, got.String(), want)
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

func TestRequestJSON(t *testing.T) {
	golden(t, "request", everything, tasks.Request{ApplicationID: "A-1001"})
	raw, err := json.Marshal(everything)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tasks.ParseRequest(raw); err != nil || !reflect.DeepEqual(got, everything) {
		t.Errorf("%s was read as %+v, %v", raw, got, err)
	}
	var keys []string
	for field := range reflect.TypeFor[tasks.Request]().Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		keys = append(keys, key)
	}
	if !reflect.DeepEqual(tasks.Keys(), keys) {
		t.Errorf("the keys are %v, those of the JSON %v", tasks.Keys(), keys)
	}
}

func TestLinkJSON(t *testing.T) {
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
		{r, "spring", accepted.Add(time.Hour)}, // expired from that moment on
		{failed, "spring", accepted},
		{waiting, "", accepted},
	} {
		link := tasks.LinkOf(i.record, i.batch, i.now)
		if same := linkview.Of(i.record, i.batch, i.now); !reflect.DeepEqual(link, same) {
			t.Errorf("package linkview has %+v, package tasks %+v", same, link)
		}
		links = append(links, link)
	}
	golden(t, "link", links...)
}

// entry is an entry of the results stream as the ledger writes it.
func entry() map[string]any {
	return map[string]any{
		"id": "b0886c77-8e64-539d-9d71-734fc184653f", "type": "link.created", "timestamp": "2026-11-23T10:00:00.123Z",
		"application_id": "A-1001",
		"data": `{"application_id":"A-1001","generation":2,"run":3,"batch":"spring","link_id":"link-1","url":"https://kyc.example/link-1",` +
			`"expires_at":"2026-11-23T11:00:00.000Z","attempts":5,"possible_duplicates":1,"metadata":{"customer":"42"}}`,
	}
}

func TestEventJSON(t *testing.T) {
	created, err := tasks.ParseEvent(entry())
	if err != nil {
		t.Fatal(err)
	}
	if created.ID != "b0886c77-8e64-539d-9d71-734fc184653f" || created.Replay {
		t.Errorf("the event is %+v", created)
	}
	failed := entry()
	failed["type"], failed["replay"] = "link.failed", "1"
	failed["later"] = "a field of a later version"
	failed["data"] = `{"application_id":"A-1001","generation":1,"run":1,"reason":"timeout","message":"no answer","attempts":8,"possible_duplicates":8,"later":{}}`
	again, err := tasks.ParseEvent(failed)
	if err != nil || !again.Replay {
		t.Errorf("the event is %+v, %v", again, err)
	}
	held := entry()
	held["type"] = "link.held"
	held["data"] = `{"application_id":"A-1001","generation":1,"run":1,"batch":"spring","reason":"unknown_outcome",` +
		`"message":"FaceKi did not answer in time","attempts":1,"possible_duplicates":1}`
	parked, err := tasks.ParseEvent(held)
	if err != nil {
		t.Error(err)
	}
	golden(t, "event", created, again, parked)
}

func TestParseEventRefuses(t *testing.T) {
	for field, values := range map[string][]any{
		"id": {nil, ""}, "type": {nil, "", 1}, "timestamp": {nil, "", "yesterday"}, "data": {nil, "", "[]", `{"attempts":"x","url":"https://kyc.example/secret"}`},
	} {
		for _, v := range values {
			values := entry()
			values[field] = v
			if e, err := tasks.ParseEvent(values); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s=%v was read as %+v, %v", field, v, e, err)
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
			t.Fatalf("%s was written and cannot be read: %v", once, err)
		}
		if twice, err := json.Marshal(again.Data); err != nil || string(once) != string(twice) {
			t.Fatalf("%v; written as\n%s\nthen\n%s", err, once, twice)
		}
	})
}
