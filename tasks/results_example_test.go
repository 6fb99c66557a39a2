package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt" // a database that needs no server

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/tasks"
)

// store handles an event once, even if it is delivered several times: the transaction
// that does the work also stores the event's id as a key. In SQL, that is INSERT INTO
// events (id) VALUES ($1) ON CONFLICT DO NOTHING, and a check of how many rows it inserted.
func store(db *bbolt.DB, e tasks.Event) error {
	return db.Update(func(tx *bbolt.Tx) error { // if it fails, the event is delivered again
		events, people := tx.Bucket([]byte("events")), tx.Bucket([]byte("people"))
		if events.Get([]byte(e.ID)) != nil {
			return nil // it was handled before
		}
		if err := events.Put([]byte(e.ID), []byte(e.Type)); err != nil {
			return err
		}
		before := people.Get([]byte(e.Data.ApplicationID))
		return people.Put([]byte(e.Data.ApplicationID), fmt.Appendf(nil, "%s %s", before, e.Data.URL))
	})
}

// A handler may be called twice for an event, and stores it once.
func ExampleResults() {
	rdb, config := exampleRedis() // redis.NewClient(…), tasks.Config{}
	defer rdb.Close()
	db := exampleDatabase()
	defer db.Close()
	exampleEvents(rdb, config.Account, "A-1001", "A-1002", "A-1001") // one is repeated, as after a lost acknowledgement

	results := tasks.NewResults(rdb, tasks.ResultsConfig{
		Account: config.Account, Group: "crm", Consumer: "crm-1",
		OnError: func(err error) { fmt.Println(err) },
	})
	// A service calls Run, which ends with its context; Drain ends when no event is left.
	err := results.Drain(context.Background(), 1, func(_ context.Context, events []tasks.Event) error {
		return store(db, events[0])
	})
	fmt.Println(err)

	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("people")).ForEach(func(id, urls []byte) error {
			fmt.Printf("%s%s\n", id, urls)
			return nil
		})
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// A-1001 https://simulator.invalid/kycverify/A-1001
	// A-1002 https://simulator.invalid/kycverify/A-1002
	// <nil>
}

func exampleDatabase() *bbolt.DB {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	db, err := bbolt.Open(filepath.Join(dir, "people.db"), 0o600, nil)
	if err == nil {
		err = os.RemoveAll(dir) // the open file exists until it is closed
	}
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("events"))
			_, err2 := tx.CreateBucket([]byte("people"))
			return errors.Join(err, err2)
		})
	}
	if err != nil {
		panic(err)
	}
	return db
}

// exampleEvents publishes events, as workers do.
func exampleEvents(rdb redis.UniversalClient, account string, ids ...string) {
	for _, id := range ids {
		err := rdb.XAdd(context.Background(), &redis.XAddArgs{Stream: keyspace.Keys{Account: account}.Results(), Values: []string{
			"id", "event of " + id, "type", tasks.EventCreated, "timestamp", "2026-11-23T10:00:00.000Z", "application_id", id,
			"data", fmt.Sprintf(`{"application_id":%q,"generation":1,"run":1,"url":"https://simulator.invalid/kycverify/%s","attempts":1,"possible_duplicates":0}`, id, id),
		}}).Err()
		if err != nil {
			panic(err)
		}
	}
}
