package fleet

import (
	"testing"
	"testing/synctest"
	"time"
)

// The time for which a worker has reached Redis without a break, before which it finds no
// other worker dead, restarts after a failed or late heartbeat and after a step of Redis'
// clock.
func TestClock_RestartsUnbrokenTimeAfterBreaksAndSteps(t *testing.T) {
	type beat struct {
		after time.Duration // the previous one
		ahead time.Duration // of Redis' clock
		took  time.Duration
		lost  bool
	}
	second := beat{after: time.Second}
	for name, tt := range map[string]struct {
		beats []beat
		pass  time.Duration
		want  time.Duration
	}{
		"no heartbeat yet":            {nil, time.Hour, 0},
		"the first":                   {[]beat{second}, 0, time.Nanosecond},
		"one a second":                {[]beat{second, second, second, second}, time.Second, 4 * time.Second},
		"one failed":                  {[]beat{second, second, {after: time.Second, lost: true}}, 0, 0},
		"one failed, then more":       {[]beat{second, {after: time.Second, lost: true}, second, second}, 0, time.Second},
		"stopped for a while":         {[]beat{second, second}, maxPause + 1, 0},
		"stopped, then more":          {[]beat{second, second, {after: maxPause + 1}, second}, 0, time.Second},
		"the clock is set ahead":      {[]beat{second, second, {after: time.Second, ahead: 20 * time.Second}, {after: time.Second, ahead: 20 * time.Second}}, 0, time.Second},
		"the clock is set back":       {[]beat{second, second, {after: time.Second, ahead: -time.Hour}, {after: time.Second, ahead: -time.Hour}}, 0, time.Second},
		"the clock is corrected":      {[]beat{second, {after: time.Second, ahead: maxDrift}, {after: time.Second}}, 0, 2 * time.Second},
		"a slow heartbeat is no step": {[]beat{second, {after: time.Second, took: 3 * time.Second}, {after: time.Second, took: time.Second}}, 0, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClock()
				for _, b := range tt.beats {
					<-time.After(b.after)
					if b.lost {
						c.lose()
						continue
					}
					sent := time.Now()
					<-time.After(b.took)
					c.heartbeat(sent, time.Now(), time.Now().Add(b.ahead))
				}
				<-time.After(tt.pass)
				if got := c.unbroken(); got != tt.want {
					t.Errorf("unbroken for %s, want %s", got, tt.want)
				}
			})
		})
	}
}

func TestClock_ExpectsTheTimeOfRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		if at := c.expected(); at != 0 || c.stepped(time.Now()) {
			t.Errorf("the expected time before a heartbeat is %d", at)
		}
		redis := func() time.Time { return time.Now().Add(time.Hour) }
		sent := time.Now()
		<-time.After(50 * time.Millisecond)
		c.heartbeat(sent, time.Now(), redis())
		<-time.After(800 * time.Millisecond)
		if late := time.UnixMilli(c.expected()).Sub(redis()); late < 0 || late > 50*time.Millisecond {
			t.Errorf("the expected time is off by %v", late)
		}
		for off, want := range map[time.Duration]bool{0: false, -time.Second: true, 20 * time.Second: true} {
			if c.stepped(redis().Add(off)) != want {
				t.Errorf("a clock that is off by %v has stepped: %v", off, !want)
			}
		}
	})
}
