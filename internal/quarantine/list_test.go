package quarantine_test

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/quarantine"
)

func TestAdd_KeepsABoundedNumberOfEntries(t *testing.T) {
	h := ledgertest.New(t)
	h.Must(h.Redis.Eval(t.Context(), "for i = 1, ARGV[1] do redis.call('LPUSH', KEYS[1], '{}') end return 1", []string{h.Keys.Quarantine()}, quarantine.MaxEntries).Err())
	h.Must(h.Stores.Quarantine.Add(t.Context(), quarantine.Entry{Task: "nonsense", Why: "it is", Raw: []byte(strings.Repeat("x", quarantine.MaxBytes+1))}))
	var all []quarantine.Entry
	for p, err := range h.Stores.Quarantine.All(t.Context()) {
		h.Must(err)
		all = append(all, p)
	}
	if n, err := h.Stores.Quarantine.Len(t.Context()); err != nil || n != quarantine.MaxEntries {
		t.Errorf("the length is %d, %v", n, err)
	}
	if len(all) != quarantine.MaxEntries || all[0].Task != "nonsense" || len(all[0].Raw) != quarantine.MaxBytes {
		t.Errorf("%d entries are kept, the newest is %s", len(all), all[0].Task)
	}
	if n := h.Redis.HGet(t.Context(), h.Keys.State(), "poison").Val(); n != "1" {
		t.Errorf("%s entries are counted, want 1", n)
	}
}
