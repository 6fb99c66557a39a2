package config

import (
	"strings"
	"testing"
)

func TestOps_Validates(t *testing.T) {
	t.Parallel()
	base := []string{"KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0"}
	for _, tt := range []struct {
		set   []string
		want  string // a problem begins so; "": none
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
			t.Errorf("%v: %+v, %v", tt.set, c.Ops, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v: %v", tt.set, err)
		}
		if c, err := Load(append(tt.set, base...), Needs{Redis: true}); err != nil && !strings.Contains(tt.want, "empty") || c.Ops.Listen != "" {
			t.Errorf("%v is read by a command without health: %+v, %v", tt.set, c.Ops, err)
		}
	}
}
