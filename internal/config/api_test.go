package config

import (
	"strings"
	"testing"
)

func TestAPI_RefusesInvalidSettingsWhereAnAPIRuns(t *testing.T) {
	t.Parallel()
	base := []string{"KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0"}
	for _, tt := range []struct {
		set  []string
		want string // the beginning of a problem, or "" for none
	}{
		{nil, ""},
		{[]string{"KYCLINK_LISTEN=:8080", "KYCLINK_MAX_BODY=500MiB"}, ""},
		{[]string{"KYCLINK_LISTEN=[::1]:0"}, ""},
		{[]string{"KYCLINK_LISTEN=8080"}, "KYCLINK_LISTEN is"},
		{[]string{"KYCLINK_LISTEN=a:99999"}, "KYCLINK_LISTEN is"},
		{[]string{"KYCLINK_TLS_CERT=a.pem"}, "KYCLINK_TLS_KEY is missing"},
		{[]string{"KYCLINK_TLS_KEY=a.pem"}, "KYCLINK_TLS_CERT is missing"},
		{[]string{"KYCLINK_MAX_BODY=1GB"}, "KYCLINK_MAX_BODY is"},
		{[]string{"KYCLINK_MAX_BODY=-1"}, "KYCLINK_MAX_BODY is"},
		{[]string{"KYCLINK_MAX_BODY=1023"}, "KYCLINK_MAX_BODY is"},
		{[]string{"KYCLINK_MAX_BODY=9999999999GiB"}, "KYCLINK_MAX_BODY is"},
		{[]string{"KYCLINK_MAX_BODY="}, "KYCLINK_MAX_BODY is empty"},
	} {
		c, err := Load(append(tt.set, base...), Needs{Redis: true, API: true})
		switch {
		case tt.want == "" && (err != nil || c.API.Listen == "" || c.API.MaxBody == 0):
			t.Errorf("%v: got %+v, %v; want no error", tt.set, c.API, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v: got error %v, want one that contains %q", tt.set, err, tt.want)
		}
		if _, err := Load(append(tt.set, base...), Needs{Redis: true}); err != nil {
			t.Errorf("%v in a command without an API: got error %v, want it ignored", tt.set, err)
		}
	}
	c, err := Load(append(base, "KYCLINK_MAX_BODY=3MiB"), Needs{API: true})
	if err != nil || c.API.MaxBody != 3<<20 || !c.API.Loopback() || c.API.TLS() {
		t.Errorf("got %+v, %v; want 3 MiB on a loopback address without TLS", c.API, err)
	}
}
