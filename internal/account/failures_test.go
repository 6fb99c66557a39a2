package account_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// failures are one of each text, for accounts a-0, a-1 and so on.
func failures(texts ...string) account.Failures {
	all := make(account.Failures, len(texts))
	for i, text := range texts {
		all[i] = account.Failure{Account: fmt.Sprintf("a-%d", i), Err: errors.New(text)}
	}
	return all
}

func TestFailures_SayEachErrorOnce(t *testing.T) {
	t.Parallel()
	for want, all := range map[string]account.Failures{
		"account a-0: refused":                                                    failures("refused"),
		"accounts a-0, a-1: refused":                                              failures("refused", "refused"),
		"200 accounts (a-0, a-1, a-2, …): refused":                                failures(strings.Fields(strings.Repeat("refused ", 200))...),
		"accounts a-1, a-2: refused; account a-0: real":                           failures("real", "refused", "refused"),
		"account a-0: 1; account a-1: 2; account a-2: 3; 2 more failed otherwise": failures("1", "2", "3", "4", "5"),
	} {
		if got := all.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// While Redis is away, the log says so once for all accounts that rest.
func TestWatch_SaysOnceThatRedisIsAway(t *testing.T) {
	t.Parallel()
	const accounts = 200
	server := redistest.Start(t)
	core, lines := observer.New(zap.WarnLevel)
	watch := account.NewWatch(server.Client(t), zap.New(core))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range accounts {
		running.Go(func() { watch.Rest(fmt.Sprintf("account-with-a-long-name-%d", i), group).Await(ctx) })
	}
	t.Cleanup(func() { stop(); running.Wait() })
	server.Kill()
	running.Go(func() { watch.Run(ctx) })
	fixture.Eventually(t, "the log says that no account can be looked at", func() bool {
		for _, line := range lines.All() {
			text := fmt.Sprint(line.ContextMap()["error"])
			if len(text) > 500 || strings.Count(text, "refused") > 1 {
				t.Fatalf("the log repeats itself, in %d bytes: %.2000s", len(text), text)
			}
			if strings.HasPrefix(text, "200 accounts (account-with-a-long-name-") && strings.Contains(text, "refused") {
				return true
			}
		}
		return false
	})
}
