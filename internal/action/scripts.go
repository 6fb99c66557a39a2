package action

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
)

//go:embed *.lua
var luaFiles embed.FS

// scripts are the Lua files of the package.
var scripts = lua.NewPackage("action", luaFiles)

var (
	startScript = scripts.Script("start_action.lua")
	takeScript  = scripts.Script("take_action.lua")
	saveScript  = scripts.Script("save_action.lua")
	abortScript = scripts.Script("abort_action.lua")
)

// stored is an action with what only its runner needs.
type stored struct {
	Action
	ids    []string
	cursor place
	page   []planned
}

// place is a position in a list, which is sorted by time, then by ID.
type place struct {
	At int64  `json:"at"` // ms
	ID string `json:"id"`
}

// planned is an entry that is about to be changed. It identifies the state that was read.
type planned struct {
	ID         string `json:"id"`
	Generation int    `json:"generation"`
	Run        int    `json:"run"`
	Attempts   int    `json:"attempts"`
	// Unreadable entries are only skipped.
	Unreadable bool `json:"unreadable,omitempty"`
}

// parse reads the fields of an action, after an error as many as can be read. It fails for
// what a newer version may have added to an action, because to ignore that could change
// entries that the action does not select.
func parse(id string, fields map[string]string) (a stored, err error) {
	number := func(name string) int {
		if fields[name] == "" {
			return 0
		}
		n, wrong := strconv.Atoi(fields[name])
		err = cmp.Or(err, wrong)
		return n
	}
	at := func(name string) time.Time {
		if ms := number(name); ms != 0 {
			return time.UnixMilli(int64(ms)).UTC()
		}
		return time.Time{}
	}
	object := func(name string, to any) {
		if fields[name] != "" {
			dec := json.NewDecoder(strings.NewReader(fields[name]))
			dec.DisallowUnknownFields()
			err = cmp.Or(err, dec.Decode(to))
		}
	}
	a.Action = Action{
		ID: id, Kind: Kind(fields["kind"]), Selected: number("selected"), By: fields["by"], Rate: fields["rate"],
		State: State(fields["state"]), Message: fields["message"], CreatedAt: at("created"), EndedAt: at("ended"),
		Counts: Counts{number("matched"), number("done"), Skipped{number("changed"), number("gone"), number("unreadable")}},
	}
	object("filter", &a.Filter)
	object("ids", &a.ids)
	object("cursor", &a.cursor)
	object("page", &a.page)
	switch {
	case !slices.Contains(Kinds(), a.Kind):
		err = fmt.Errorf("unknown kind %q", a.Kind)
	case !slices.Contains([]State{Running, Done, Aborted}, a.State):
		err = fmt.Errorf("unknown state %q", a.State)
	}
	if err != nil {
		return a, &unreadableError{id, err}
	}
	return a, nil
}

// unreadableError says that this version cannot decode an action.
type unreadableError struct {
	id  string
	why error
}

func (e *unreadableError) Error() string {
	return fmt.Sprintf("action %s is damaged, or written by a newer version of kyclink: %v", e.id, e.why)
}

// shown returns what everybody may see of an action, also if parse failed.
func shown(a stored, err error) Action {
	if err != nil {
		a.State, a.Filter, a.Message = Unreadable, Filter{}, err.Error()
	}
	return a.Action
}

// lease is an action that a runner has taken.
type lease struct {
	rdb    redis.UniversalClient
	keys   keyspace.Keys
	id     string
	runner string
	length time.Duration
}

// take takes the action or renews the lease; ok is false if another runner has it, or if it
// is not running and has no page to count. It leaves an action that it cannot decode to a
// runner of a newer version.
func (l lease) take(ctx context.Context) (a stored, ok bool, err error) {
	fields, err := l.takeFor(ctx, l.length)
	if err != nil || len(fields) == 0 {
		return a, false, err
	}
	if a, err = parse(l.id, fields); err != nil {
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer cancel()
		_, giveUp := l.takeFor(once, 0)
		return a, false, errors.Join(err, giveUp)
	}
	return a, true, nil
}

// takeFor takes the lease for a time, and returns the fields of the action; none if it is not
// to be had.
func (l lease) takeFor(ctx context.Context, length time.Duration) (map[string]string, error) {
	reply, err := takeScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"id": l.id, "runner": l.runner, "lease": length.Milliseconds(),
	}).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("take action %s: %w", l.id, err)
	}
	fields := make(map[string]string, len(reply)/2)
	for i := 0; i+1 < len(reply); i += 2 {
		fields[reply[i]] = reply[i+1]
	}
	return fields, nil
}

// progress is what a runner stores after a step.
type progress struct {
	cursor  place
	page    []planned // about to be changed
	counted Counts    // how many more; Matched does not count
	end     State     // "" if the action continues
	message string
	release bool // gives up the lease
}

// save stores progress, and returns the action's state, or "lost" if another
// runner has taken it.
func (l lease) save(ctx context.Context, p progress) (State, error) {
	cursor, err := json.Marshal(p.cursor)
	if err != nil {
		return "", fmt.Errorf("encode the cursor of action %s: %w", l.id, err)
	}
	var page []byte
	if len(p.page) > 0 {
		if page, err = json.Marshal(p.page); err != nil {
			return "", fmt.Errorf("encode a page of action %s: %w", l.id, err)
		}
	}
	length := l.length
	if p.release {
		length = 0
	}
	state, err := saveScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"id": l.id, "runner": l.runner, "lease": length.Milliseconds(), "cursor": cursor, "page": page,
		"done": p.counted.Done, "changed": p.counted.Skipped.Changed, "gone": p.counted.Skipped.Gone, "unreadable": p.counted.Skipped.Unreadable, "state": string(p.end), "message": p.message,
	}).Text()
	if err != nil {
		return "", fmt.Errorf("store the progress of action %s: %w", l.id, err)
	}
	return State(state), nil
}
