package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

func TestTrail_ReturnsChangesInOrder(t *testing.T) {
	trail := NewTrail(fixture.Redis().Client(t), redistest.Account())
	const changes = 2*pageSize + 3
	key := apikey.Key{ID: "4f8a1c2e9b07", Name: "shop"}
	for i := range changes {
		if err := trail.Append(t.Context(), Change{Key: key, Action: "links.request", Target: fmt.Sprint("A-", i), RequestID: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(since time.Time) (all []Change) {
		t.Helper()
		for c, err := range trail.Changes(t.Context(), since) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return all
	}
	all := read(time.Time{})
	if len(all) != changes {
		t.Fatalf("got %d changes, want %d", len(all), changes)
	}
	for i, c := range all {
		if c.Key.ID != key.ID || c.Key.Name != key.Name || c.Action != "links.request" || c.Target != fmt.Sprint("A-", i) || c.RequestID != "r" {
			t.Fatalf("change %d: got %+v", i, c)
		}
		if time.Since(c.At).Abs() > time.Hour || i > 0 && c.At.Before(all[i-1].At) {
			t.Fatalf("change %d: got time %v, which is wrong or before that of the previous change", i, c.At)
		}
	}
	at := all[len(all)-1].At
	for _, c := range read(at) {
		if c.At.Before(at) {
			t.Errorf("changes since %v include %+v", at, c)
		}
	}
	if later := read(at.Add(time.Hour)); len(later) != 0 {
		t.Errorf("got %d changes since an hour after the last, want none", len(later))
	}
}

// The latest changes are kept, and listed by their targets as long as they are kept, also
// beside those of an earlier version, which listed none and kept more.
func TestAppend_KeepsABoundedNumberOfChangesListedByTarget(t *testing.T) {
	rdb := fixture.Redis().Client(t)
	trail := NewTrail(rdb, redistest.Account())
	trail.most = 100
	earlier := func(target string) {
		t.Helper()
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: trail.keys.Audit(), Values: []string{"target", target}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 90 {
		earlier(fmt.Sprint("A-", i%7))
	}
	for i := range 130 {
		target := fmt.Sprint("A-", i%11)
		if i%5 == 0 {
			target = "" // a change of the account
		}
		if err := trail.Append(t.Context(), Change{Key: apikey.Key{ID: "4f8a1c2e9b07"}, Action: "links.request", Target: target}); err != nil {
			t.Fatal(err)
		}
		if i == 70 { // an earlier version trims what is listed
			rdb.XTrimMaxLen(t.Context(), trail.keys.Audit(), 20)
		}
	}
	for range 150 { // more than a field holds
		if err := trail.Append(t.Context(), Change{Key: apikey.Key{ID: "4f8a1c2e9b07"}, Action: "links.request", Target: "A-often"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := rdb.LLen(t.Context(), trail.keys.Tag()+":more-audited:A-often").Val(); n == 0 || n > 100 {
		t.Errorf("%d changes of a target are in its list", n)
	}
	want, got := listed(t, rdb, trail)
	if n := rdb.XLen(t.Context(), trail.keys.Audit()).Val(); n != 100 {
		t.Errorf("%d changes are kept, want 100", n)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed are\n%v, and the trail has\n%v", got, want)
	}
}

// listed returns target and ID of all entries with a target, as the trail has them and as
// they are listed.
func listed(t *testing.T, rdb *redis.Client, trail *Trail) (stored, listed []string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, e := range rdb.XRange(ctx, trail.keys.Audit(), "-", "+").Val() {
		if target := fmt.Sprint(e.Values["target"]); target != "" {
			stored = append(stored, target+" "+e.ID)
		}
	}
	for _, key := range rdb.Keys(ctx, trail.keys.Tag()+":audited:*").Val() {
		for target, ids := range rdb.HGetAll(ctx, key).Val() {
			for id := range strings.FieldsSeq(ids) {
				listed = append(listed, target+" "+id)
			}
		}
	}
	for _, key := range rdb.Keys(ctx, trail.keys.Tag()+":more-audited:*").Val() {
		for _, id := range rdb.LRange(ctx, key, 0, -1).Val() {
			listed = append(listed, strings.TrimPrefix(key, trail.keys.Tag()+":more-audited:")+" "+id)
		}
	}
	slices.Sort(stored)
	slices.Sort(listed)
	return stored, listed
}
