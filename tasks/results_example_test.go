package tasks_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite" // a database that needs no server

	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/tasks"
)

// store writes what an event says, once, however often the event comes: its id is a
// key of the database, written in the transaction that does the work.
func store(ctx context.Context, db *sql.DB, e tasks.Event) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err // the event comes again
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	result, err := tx.ExecContext(ctx, `INSERT INTO events (id) VALUES (?) ON CONFLICT DO NOTHING`, e.ID)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err // it was written before
	}
	if _, err := tx.ExecContext(ctx, `UPDATE people SET url = ?, links = links + 1 WHERE id = ?`, e.Data.URL, e.Data.ApplicationID); err != nil {
		return err
	}
	return tx.Commit()
}

// A handler that may be called twice for one event, and writes it once.
func ExampleResults() {
	rdb, config := exampleRedis() // redis.NewClient(…), tasks.Config{}
	defer rdb.Close()
	db := exampleDatabase("A-1001", "A-1002")
	defer db.Close()
	exampleEvents(rdb, config.Account, "A-1001", "A-1002", "A-1001") // one came twice, as after a lost acknowledgement

	results := tasks.NewResults(rdb, tasks.ResultsConfig{
		Account: config.Account, Group: "crm", Consumer: "crm-1",
		OnError: func(err error) { fmt.Println(err) },
	})
	// A service calls Run, which ends with its context; Drain ends when nothing is left.
	err := results.Drain(context.Background(), 1, func(ctx context.Context, events []tasks.Event) error {
		return store(ctx, db, events[0])
	})
	fmt.Println(err)

	for _, id := range []string{"A-1001", "A-1002"} {
		var url string
		var links int
		err := db.QueryRow(`SELECT url, links FROM people WHERE id = ?`, id).Scan(&url, &links)
		fmt.Println(id, url, links, err)
	}
	// Output:
	// <nil>
	// A-1001 https://simulator.invalid/kycverify/A-1001 1 <nil>
	// A-1002 https://simulator.invalid/kycverify/A-1002 1 <nil>
}

func exampleDatabase(people ...string) *sql.DB {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec(`CREATE TABLE events (id TEXT PRIMARY KEY); CREATE TABLE people (id TEXT PRIMARY KEY, url TEXT, links INTEGER)`)
	for _, id := range people {
		if err == nil {
			_, err = db.Exec(`INSERT INTO people VALUES (?, '', 0)`, id)
		}
	}
	if err != nil {
		panic(err)
	}
	return db
}

// exampleEvents stand for those that workers publish.
func exampleEvents(rdb redis.UniversalClient, account string, ids ...string) {
	for _, id := range ids {
		err := rdb.XAdd(context.Background(), &redis.XAddArgs{Stream: record.Keys{Account: account}.Results(), Values: []string{
			"id", "event of " + id, "type", tasks.EventCreated, "timestamp", "2026-11-23T10:00:00.000Z", "application_id", id,
			"data", fmt.Sprintf(`{"application_id":%q,"generation":1,"run":1,"url":"https://simulator.invalid/kycverify/%s","attempts":1,"possible_duplicates":0}`, id, id),
		}}).Err()
		if err != nil {
			panic(err)
		}
	}
}
