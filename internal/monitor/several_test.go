package monitor

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/tasks"
)

// Each metric of one of several accounts has its name as a label, and one account that cannot
// be read hides no other.
func TestSeveral_LabelsMetricsByAccount(t *testing.T) {
	of := func(name string, a fakeAccount, ready error) Config {
		return Config{
			Name: name, Account: a, Diagnose: a.diagnose, Version: "v1", Log: zap.NewNop(), Limited: zap.NewNop(),
			Ready: func() error { return ready },
		}
	}
	o := NewSeveral([]Config{
		of("bank", fakeAccount{gauges: account.Gauges{Workers: 2}}, nil),
		of("shop", fakeAccount{gauges: account.Gauges{Workers: 3}}, errors.New("it could not be joined")),
		of("post", fakeAccount{err: errors.New("Redis is away")}, nil),
	})
	o.Of("bank").Attempt(t.Context(), tasks.Bulk, "created", "", 1)
	o.Of("shop").Entries(4, 0)
	body := scrape(t, o)
	for _, want := range []string{
		`kyclink_workers{account="bank"} 2`, `kyclink_workers{account="shop"} 3`,
		`kyclink_account_ready{account="bank"} 1`, `kyclink_account_ready{account="shop"} 0`,
		`kyclink_attempts_total{account="bank",lane="bulk",outcome="created",reason="none"} 1`,
		`kyclink_attempts_total{account="shop",lane="bulk",outcome="created",reason="none"} 0`,
		`kyclink_intake_entries_total{account="shop",result="accepted"} 4`, `kyclink_intake_entries_total{account="bank",result="accepted"} 0`,
		"kyclink_redis_up 0\n", `kyclink_build_info{version="v1"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(body, `kyclink_workers{account="post"}`) {
		t.Error("an account that cannot be read has metrics")
	}
	if status, text := get(t, serve(t, o, alwaysReady)+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d %s", status, text)
	}
}
