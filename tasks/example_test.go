package tasks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// exampleRedis returns a client of a Redis server, and an unused account.
func exampleRedis() (redis.UniversalClient, tasks.Config) {
	return redis.NewClient(&redis.Options{Addr: fixture.Redis().Addr}), tasks.Config{Account: redistest.Account()}
}

func ExampleClient_Enqueue() {
	rdb, config := exampleRedis() // redis.NewClient(…), tasks.Config{}
	defer rdb.Close()
	client := tasks.NewClient(rdb, config)

	ctx := context.Background()
	request := tasks.Request{
		ApplicationID: "A-1001",
		RedirectURL:   "https://shop.example/done",
		Metadata:      []byte(`{"customer":"42"}`),
	}
	link, err := client.Enqueue(ctx, request)
	fmt.Println(link.ApplicationID, link.Status, err)

	// A repeat, also from another process, returns the same link.
	link, err = client.Enqueue(ctx, request)
	fmt.Println(link.ApplicationID, link.Status, err)

	// Other content with the same id is a conflict.
	request.RedirectURL = "https://shop.example/other"
	_, err = client.Enqueue(ctx, request)
	fmt.Println(tasks.ReasonOf(err))
	// Output:
	// A-1001 queued <nil>
	// A-1001 queued <nil>
	// conflict
}

func ExampleClient_EnqueueEach() {
	rdb, config := exampleRedis()
	defer rdb.Close()
	config.MaxBacklog = 2
	client := tasks.NewClient(rdb, config)

	signups := []tasks.Request{{ApplicationID: "A-1"}, {ApplicationID: "A-2"}, {ApplicationID: "A-1"}, {ApplicationID: "A-3"}}
	answers, err := client.EnqueueEach(context.Background(), signups)
	for _, a := range answers {
		fmt.Println(a.Link.ApplicationID, a.Link.Status, a.Err)
	}
	fmt.Println(err)
	// Output:
	// A-1 queued <nil>
	// A-2 queued <nil>
	// A-1 queued <nil>
	//   the backlog of the interactive lane is full (KYCLINK_MAX_BACKLOG is 2); try again later
	// <nil>
}

// A refusal has a reason, which is the same word in results, events and the HTTP API.
// Other errors have none.
func ExampleReasonOf() {
	fmt.Println(tasks.ReasonOf(&tasks.BacklogError{Lane: tasks.Interactive, Limit: 1000}))
	fmt.Println(tasks.ReasonOf(&tasks.ConflictError{ApplicationID: "A-1", Keys: []string{"redirect_url"}}))
	fmt.Printf("%q\n", tasks.ReasonOf(context.DeadlineExceeded))
	// Output:
	// backlog_full
	// conflict
	// ""
}

func ExampleClient_EnqueueAll() {
	rdb, config := exampleRedis()
	defer rdb.Close()
	client := tasks.NewClient(rdb, config)

	people := []tasks.Request{{ApplicationID: "A-1"}, {ApplicationID: "A-2", ExpiryMinutes: -5}, {ApplicationID: "A-1"}}
	batch := tasks.Batch{Name: "spring", Options: tasks.Options{RedirectURL: "https://shop.example/done"}}
	show := func(r tasks.Result) {
		if r.Err != nil {
			fmt.Println(r.Row.Number, tasks.ReasonOf(r.Err), r.Err)
			return
		}
		fmt.Println(r.Row.Number, r.Acceptance, r.Link.Status, r.Link.Batch)
	}
	err := client.EnqueueAll(context.Background(), batch, tasks.Rows(people), show)
	fmt.Println(err)

	// Another import of the same rows changes nothing.
	err = client.EnqueueAll(context.Background(), batch, tasks.Rows(people[:1]), show)
	fmt.Println(err)
	// Output:
	// 1 fresh waiting spring
	// 2 invalid expiry_minutes: must be from 1 to 5256000
	// 3 repeated waiting spring
	// <nil>
	// 1 again waiting spring
	// <nil>
}

func ExampleParseRequest() {
	request, err := tasks.ParseRequest([]byte(`{"application_id":"A-1001","lane":"bulk","metadata":{"customer":"42"}}`))
	fmt.Println(request.ApplicationID, request.Lane, err)

	_, err = tasks.ParseRequest([]byte(`{"application_id":"A 1","redirect_uri":"https://shop.example","generation":0}`))
	fmt.Println(err)
	// Output:
	// A-1001 bulk <nil>
	// generation: must be at least 1; redirect_uri: unknown key; application_id: contains ' '; use printable characters without spaces
}

func ExampleParseText() {
	cells := map[string]string{"application_id": "A-1001", "expiry_minutes": "60", "redirect_url": ""}
	request, err := tasks.ParseText(func(key string) string { return cells[key] })
	fmt.Println(request.ApplicationID, request.ExpiryMinutes, err)
	// Output: A-1001 60 <nil>
}

func ExampleParseEvent() {
	event, err := tasks.ParseEvent(map[string]any{ // the Values of an entry of {kyclink:default}:results
		"id": "b0886c77-8e64-539d-9d71-734fc184653f", "type": "link.failed", "timestamp": "2026-11-23T10:00:00Z",
		"application_id": "A-1001",
		"data":           `{"application_id":"A-1001","generation":1,"run":1,"reason":"timeout","attempts":8,"possible_duplicates":8}`,
	})
	fmt.Println(event.Type == tasks.EventFailed, event.Data.ApplicationID, event.Data.Reason, err)
	// Output: true A-1001 timeout <nil>
}

func ExampleVerifyCallback() {
	// The value of KYCLINK_CALLBACK_SECRET; several while it is replaced.
	secrets := []string{"whsec_YW4gaW52ZW50ZWQgc2VjcmV0IG9mIGFuIGV4YW1wbGU="}
	cache := &tasks.MemoryReplayCache{}
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "the body cannot be read", http.StatusBadRequest)
			return
		}
		event, err := tasks.VerifyCallback(secrets, r.Header, body, cache)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Println(event.ID, event.Type, event.Data.ApplicationID) // store it, by its ID
		w.WriteHeader(http.StatusNoContent)
	})

	// What kyclink sends.
	const id, body = "e-1", `{"type":"link.created","timestamp":"2026-11-23T10:00:00Z","data":{"application_id":"A-1001"}}`
	hook, err := standardwebhooks.NewWebhook(secrets[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	signature, err := hook.Sign(id, now, []byte(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, sent := range []string{body, strings.Replace(body, "A-1001", "A-1002", 1)} {
		request := httptest.NewRequest(http.MethodPost, "/hooks/kyc", strings.NewReader(sent))
		request.Header.Set("Webhook-Id", id)
		request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
		request.Header.Set("Webhook-Signature", signature)
		answer := httptest.NewRecorder()
		receiver.ServeHTTP(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// e-1 link.created A-1001
	// 204
	// 400
}
