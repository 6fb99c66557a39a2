package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
)

// A key is printed once, on standard output only. Changes of keys are in the audit trail.
func TestKeys_AreManagedByCommands(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	expect(64, "", "--name and --scope are required", "keys", "create", "--scope", "read")
	expect(64, "", `unknown scope "admin"`, "keys", "create", "--scope", "read,admin", "--name", "shop")
	expect(64, "", "printable", "keys", "create", "--scope", "read", "--name", "a\tb")
	code, stdout, stderr := kyclink(t, settings, "keys", "create", "--scope", "enqueue,read", "--name", "shop")
	key := strings.TrimSuffix(stdout, "\n")
	got, err := apikey.NewKeyring(server.Client(t), "default").Verify(t.Context(), key)
	if code != 0 || err != nil || got.Name != "shop" || apikey.JoinScopes(got.Scopes) != "enqueue,read" {
		t.Fatalf("exit code %d, %v: %+v", code, err, got)
	}
	if strings.Contains(stderr, key) || strings.Contains(expect(0, "enqueue,read", "", "keys", "list"), key) {
		t.Error("the key is also printed elsewhere")
	}
	var made createdKey
	if err := json.Unmarshal([]byte(expect(0, `"name":"oncall"`, "", "keys", "create", "--scope", "operate", "--name", "oncall", "--json")), &made); err != nil || made.Key == "" {
		t.Errorf("%v: %+v", err, made.Issued)
	}
	expect(0, "key "+got.ID+" (shop) is revoked", "", "keys", "revoke", got.ID)
	expect(1, "", "is already revoked", "keys", "revoke", got.ID)
	expect(1, "", "has this ID; to list the keys: kyclink keys list", "keys", "revoke", "nobody")
	expect(0, `"revoked_at":`, "", "keys", "list", "--json")

	if err := audit.NewTrail(server.Client(t), "default").Append(t.Context(), audit.Change{Key: got, Action: "links.request", Target: "A-1", RequestID: "r-1"}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(expect(0, "", "", "audit", "--since", "1h")), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], whoami()) || !strings.Contains(lines[2], "keys.revoke") ||
		!strings.HasSuffix(lines[3], "A-1  request r-1") || !strings.Contains(lines[3], got.ID+" shop") {
		t.Errorf("audit:\n%s", strings.Join(lines, "\n"))
	}
	expect(0, `"key":"`+got.ID+`","name":"shop","action":"links.request","target":"A-1","request_id":"r-1"}`, "", "audit", "--json")
	expect(64, "", "neither a time", "audit", "--since", "soon")
}
