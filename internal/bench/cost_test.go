package main

import (
	"os"
	"testing"
	"time"
)

func TestCostOf_CountsCommandsAndTheirTime(t *testing.T) {
	r := open(t)
	c, err := r.costOf(t.Context(), os.Getpid(), func() error {
		for range 20 {
			if err := r.rdb.Eval(t.Context(), "for i = 1, 1000 do redis.call('INCR', KEYS[1]) end return 1", []string{"n"}).Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.commands != 20*1001 || c.redis <= 0 {
		t.Errorf("got %+v, want 20 scripts with 1000 commands each", c)
	}
}

func TestProcessorTimeOf_Rises(t *testing.T) {
	before := processorTimeOf(os.Getpid())
	for n := 0; processorTimeOf(os.Getpid()) <= before; n++ { // works until the next tick
		if processorTimeOf(os.Getpid()) == 0 && n > 1_000_000 {
			t.Fatal("the processor time of this process is 0")
		}
	}
	if d := processorTimeOf(os.Getpid()); d < 10*time.Millisecond {
		t.Errorf("got %v", d)
	}
}
