//go:build long

package main

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// Workers, API servers and imports of the previous and of today's version work on one Redis
// under load, while the fleet changes from one to the other and back: nothing is lost, and
// all other promises are kept, too.
func TestUpgrade_LosesNothing(t *testing.T) {
	today := fixture.ProgramFor(t, fixture.Build{Failpoints: true, CallbackPace: 20})
	previous := fixture.Previous(t)
	for name, versions := range map[string][]string{
		"previous, today, previous": {previous, today, previous},
		"today, previous, today":    {today, previous, today},
	} {
		t.Run(name, func(t *testing.T) {
			expectNoViolation(t, config{seed: 7, duration: 24 * time.Second, kyclink: versions[0], versions: versions[1:]})
		})
	}
}

// A worker leaves a record of a later version as it is, and its task in the queue, until a
// worker that knows the version processes it.
func TestUpgrade_LeavesLaterVersionsToLaterWorkers(t *testing.T) {
	today := fixture.ProgramFor(t, fixture.Build{Failpoints: true, CallbackPace: 20})
	for name, program := range map[string]string{"previous": fixture.Previous(t), "today": today} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			_, url := fixture.Upstream(t, simulator.Config{})
			rdb := server.Client(t)
			client := tasks.NewClient(rdb, tasks.Config{})
			enqueue := func(id string) {
				_, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: id})
				fixture.Must(t, err)
			}
			record := keyspace.Keys{Account: account}.Record("A-1")
			enqueue("A-1")
			known := rdb.Get(t.Context(), record).Val()
			const later = "9"
			fixture.Must(t, rdb.SetRange(t.Context(), record, 0, later).Err())
			w, err := launch(program, t.TempDir(), "worker", []string{"worker", "--simulate"},
				[]string{"KYCLINK_REDIS_URL=" + server.URL, "FACEKI_BASE_URL=" + url, "FACEKI_CLIENT_ID=invented", "FACEKI_CLIENT_SECRET=invented"}, "")
			fixture.Must(t, err)
			created := func(id string) bool {
				link, err := client.Get(t.Context(), id)
				return err == nil && link.Status == tasks.Created
			}
			// The worker takes the task of A-1 before that of A-2.
			enqueue("A-2")
			fixture.Eventually(t, "A-2 is created", func() bool { return created("A-2") })
			if got, want := rdb.Get(t.Context(), record).Val(), later+known[1:]; got != want {
				t.Errorf("the record is %q, want %q", got, want)
			}
			fixture.Must(t, rdb.SetRange(t.Context(), record, 0, known[:1]).Err())
			fixture.Eventually(t, "A-1 is created", func() bool { return created("A-1") })
			if problem := w.stop(stopTimeout); problem != "" {
				t.Error(problem)
			}
		})
	}
}
