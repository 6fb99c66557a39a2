package config

import (
	"strings"
	"testing"
)

func TestOps_RefusesInvalidSettingsWhereHealthIsServed(t *testing.T) {
	t.Parallel()
	base := []string{"KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0"}
	for _, tt := range []struct {
		set   []string
		want  string // the beginning of a problem, or "" for none
		given bool
	}{
		{nil, "", false},
		{[]string{"KYCLINK_OPS_LISTEN=127.0.0.1:9090"}, "", true},
		{[]string{"KYCLINK_OPS_LISTEN=[::1]:0"}, "", true},
		{[]string{"KYCLINK_OPS_LISTEN="}, "KYCLINK_OPS_LISTEN is empty", true},
		{[]string{"KYCLINK_OPS_LISTEN=9090"}, `KYCLINK_OPS_LISTEN is "9090"`, true},
		{[]string{"KYCLINK_OPS_LISTEN=a:99999"}, `KYCLINK_OPS_LISTEN is "a:99999"`, true},
	} {
		c, err := Load(append(tt.set, base...), Needs{Redis: true, Ops: true})
		switch {
		case tt.want == "" && (err != nil || c.Ops.Listen == "" || c.Ops.Given != tt.given):
			t.Errorf("%v: got %+v, %v; want no error and given %t", tt.set, c.Ops, err, tt.given)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v: got error %v, want one that contains %q", tt.set, err, tt.want)
		}
		if c, err := Load(append(tt.set, base...), Needs{Redis: true}); err != nil && !strings.Contains(tt.want, "empty") || c.Ops.Listen != "" {
			t.Errorf("%v in a command that serves no health: got %+v, %v; want it ignored", tt.set, c.Ops, err)
		}
	}
}
