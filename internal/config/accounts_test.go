package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
)

// accountDir returns a directory with files by name.
func accountDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		fixture.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

func worker() config.Needs { return config.Needs{FaceKi: true, Redis: true, Ops: true} }

func TestLoadAccounts_ReadsOneAccountFromTheEnvironment(t *testing.T) {
	t.Parallel()
	all, err := config.LoadAccounts([]string{
		"KYCLINK_REDIS_URL=redis://127.0.0.1:6379", "KYCLINK_ACCOUNT=shop", "FACEKI_CLIENT_ID=id", "FACEKI_CLIENT_SECRET=secret",
	}, worker())
	if err != nil || len(all) != 1 || all[0].File != "" || all[0].Account != "shop" {
		t.Errorf("got %+v, %v", all, err)
	}
}

// The settings in a file replace those of the environment, whether they are values or name
// files. The others are the same for all accounts.
func TestLoadAccounts_OverridesTheEnvironmentByEachFile(t *testing.T) {
	t.Parallel()
	secret := file(t, "secret-of-all")
	dir := accountDir(t, map[string]string{
		"shop.env": "# the shop\n\nFACEKI_CLIENT_ID=shop-id\r\nFACEKI_RATE=50/s\nKYCLINK_ON_UNKNOWN=hold\n",
		"bank.env": "FACEKI_CLIENT_ID=bank-id\nFACEKI_CLIENT_SECRET=a=b#c$d\nKYCLINK_CALLBACK_HOSTS=bank.example\nKYCLINK_CALLBACK_SECRET=" + hookSecret,
		".hidden":  "not read",
	})
	fixture.Must(t, os.Mkdir(filepath.Join(dir, "..data"), 0o700)) // as a mounted secret has
	all, err := config.LoadAccounts([]string{
		"KYCLINK_REDIS_URL=redis://127.0.0.1:6379", "KYCLINK_ACCOUNTS=" + dir, "FACEKI_CLIENT_SECRET_FILE=" + secret, "FACEKI_RATE=10/s", "KYCLINK_OPS_LISTEN=:9100",
	}, worker())
	if err != nil || len(all) != 2 || all[0].File != filepath.Join(dir, "bank.env") || all[0].Exposed {
		t.Fatalf("got %+v, %v", all, err)
	}
	bank, shop := all[0], all[1]
	if bank.Account != "bank" || bank.FaceKi.ClientID != "bank-id" || bank.FaceKi.ClientSecret != "a=b#c$d" || bank.Work.Rate != perSecond(10) ||
		!bank.Callback.Callbacks().On() || bank.Work.OnUnknown != config.Retry {
		t.Errorf("bank: %+v", bank)
	}
	if shop.Account != "shop" || shop.FaceKi.ClientID != "shop-id" || shop.FaceKi.ClientSecret != "secret-of-all" || shop.Work.Rate != perSecond(50) ||
		shop.Callback.Callbacks().On() || shop.Work.OnUnknown != config.Hold {
		t.Errorf("shop: %+v", shop)
	}
	if bank.Ops != shop.Ops || bank.Ops.Listen != ":9100" || bank.Redis != shop.Redis {
		t.Errorf("the settings of the process differ: %+v, %+v", bank, shop)
	}
}

// Problems name the file and, if a line is wrong, the line. A problem of the environment
// appears once, and no problem shows what may be a secret.
func TestLoadAccounts_NamesFileAndKeyOfEachProblem(t *testing.T) {
	t.Parallel()
	good := "FACEKI_CLIENT_ID=id\nFACEKI_CLIENT_SECRET=secret\n"
	for name, tt := range map[string]struct {
		files   map[string]string
		environ []string
		want    []string // DIR is the directory
	}{
		"a setting of the process": {map[string]string{"shop.env": good + "KYCLINK_LOG_LEVEL=debug\nKYCLINK_ACCOUNT=x\nKYCLINK_REDIS_URL_FILE=x"}, nil, []string{
			"DIR/shop.env:3: KYCLINK_LOG_LEVEL is a setting of the process;", "DIR/shop.env:4: KYCLINK_ACCOUNT is a setting of the process;",
			"DIR/shop.env:5: KYCLINK_REDIS_URL_FILE is a setting of the process;"}},
		"unknown and repeated settings": {map[string]string{"shop.env": good + "FACEKI_RAT=5/s\n\nSOMETHING_ELSE=1\nFACEKI_CLIENT_ID=id2"}, nil, []string{
			"DIR/shop.env:3: FACEKI_RAT is not a setting; did you mean FACEKI_RATE?", "DIR/shop.env:5: SOMETHING_ELSE is not a setting;",
			"DIR/shop.env:6: FACEKI_CLIENT_ID is set twice;"}},
		"a broken secret": {map[string]string{"shop.env": good + "aHVzaC1odXNo\nbW9yZQ==\nexport FACEKI_RATE=5/s"}, nil, []string{
			"DIR/shop.env:3: is not of the form KEY=VALUE", "DIR/shop.env:4: is not of the form KEY=VALUE", "DIR/shop.env:5: is not of the form KEY=VALUE"}},
		"wrong and missing values": {map[string]string{"shop.env": good + "FACEKI_RATE=fast\nKYCLINK_MAX_ATTEMPTS=\nKYCLINK_REDIRECT_HOSTS=*.*", "bank.env": ""}, nil, []string{
			"DIR/bank.env: FACEKI_CLIENT_ID is missing;", "DIR/bank.env: FACEKI_CLIENT_SECRET is missing;", "DIR/shop.env:3: FACEKI_RATE is wrong:",
			"DIR/shop.env:4: KYCLINK_MAX_ATTEMPTS is empty;", "DIR/shop.env:5: KYCLINK_REDIRECT_HOSTS:"}},
		"both forms of a secret": {map[string]string{"shop.env": good + "FACEKI_CLIENT_SECRET_FILE=x"}, nil, []string{"DIR/shop.env:3: FACEKI_CLIENT_SECRET_FILE and FACEKI_CLIENT_SECRET are both set;"}},
		"a problem of the process": {map[string]string{"shop.env": good, "bank.env": good}, []string{"KYCLINK_LOG_LEVEL=loud", "FACEKI_RATE=fast"}, []string{
			"FACEKI_RATE is wrong:", "KYCLINK_LOG_LEVEL is"}},
		"an account beside accounts": {map[string]string{"shop.env": good}, []string{"KYCLINK_ACCOUNT=shop"}, []string{"KYCLINK_ACCOUNT is set, while KYCLINK_ACCOUNTS"}},
		"an empty directory":         {nil, nil, []string{"KYCLINK_ACCOUNTS names DIR, which is empty;"}},
		"other files": {map[string]string{"shop.env": good, "shop.env.bak": good, "Big Shop.env": good}, nil, []string{
			`DIR/Big Shop.env names the account "Big Shop";`, "DIR/shop.env.bak is not the settings of an account;"}},
		"UTF-16":       {map[string]string{"shop.env": "\xff\xfeF\x00"}, nil, []string{"DIR/shop.env begins with a byte order mark;"}},
		"no directory": {nil, []string{"KYCLINK_ACCOUNTS=DIR/none"}, []string{"KYCLINK_ACCOUNTS cannot be read (open DIR/none:"}},
		"no name":      {nil, []string{"KYCLINK_ACCOUNTS="}, []string{"KYCLINK_ACCOUNTS is empty;"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := accountDir(t, tt.files)
			environ := []string{"KYCLINK_REDIS_URL=redis://127.0.0.1:6379", "KYCLINK_ACCOUNTS=" + dir}
			for _, entry := range tt.environ {
				environ = append(environ, strings.ReplaceAll(entry, "DIR", dir))
			}
			_, err := config.LoadAccounts(environ, worker())
			refused, ok := errors.AsType[*config.Error](err)
			if !ok || len(refused.Problems) != len(tt.want) {
				t.Fatalf("got %v, want %d problems", err, len(tt.want))
			}
			for i, want := range tt.want {
				if got := refused.Problems[i]; !strings.HasPrefix(strings.ReplaceAll(got, dir, "DIR"), want) {
					t.Errorf("problem %d is %q, want %q", i, got, want)
				}
			}
			if strings.Contains(err.Error(), "aHVzaC1odXNo") || strings.Contains(err.Error(), "bW9yZQ") {
				t.Errorf("a part of a secret is shown: %v", err)
			}
		})
	}
}

// A file that other users may read is reported if it contains a secret itself.
func TestLoadAccounts_ReportsExposedSecrets(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files have no such permissions")
	}
	dir := accountDir(t, map[string]string{
		"bank.env": "FACEKI_CLIENT_ID=id\nFACEKI_CLIENT_SECRET=secret",
		"shop.env": "FACEKI_RATE=5/s\nFACEKI_CLIENT_SECRET_FILE=" + file(t, "secret"),
		"post.env": "FACEKI_CLIENT_SECRET=secret",
	})
	for _, name := range []string{"bank.env", "shop.env"} {
		fixture.Must(t, os.Chmod(filepath.Join(dir, name), 0o644))
	}
	all, err := config.LoadAccounts([]string{"KYCLINK_REDIS_URL=redis://127.0.0.1:6379", "KYCLINK_ACCOUNTS=" + dir, "FACEKI_CLIENT_ID=id"}, worker())
	fixture.Must(t, err)
	for _, c := range all {
		if want := c.Account == "bank"; c.Exposed != want {
			t.Errorf("the file of %s is exposed: %v, want %v", c.Account, c.Exposed, want)
		}
	}
}

// The secret does not matter, since that of a client may be replaced in one file first, nor
// does another spelling of the base URL.
func TestSharesClient_OfAccountsThatFaceKiLimitsTogether(t *testing.T) {
	t.Parallel()
	of := func(id, baseURL string, simulated bool) config.Config {
		return config.Config{FaceKi: faceki.Config{ClientID: id, BaseURL: baseURL, Simulated: simulated}}
	}
	const api, other = "https://sdk.faceki.com", "https://other.example"
	for name, tt := range map[string]struct {
		a, b config.Config
		want bool
	}{
		"the same":              {of("id", api, false), of("id", api, false), true},
		"with a slash":          {of("id", api, false), of("id", api+"/", false), true},
		"another client":        {of("id", api, false), of("id-2", api, false), false},
		"another API":           {of("id", api, false), of("id", other, false), false},
		"simulated":             {of("id", other, true), of("id", other, true), false},
		"one of them simulated": {of("id", other, false), of("id", other, true), false},
	} {
		tt.a.FaceKi.ClientSecret, tt.b.FaceKi.ClientSecret = "new", "old"
		if got := tt.a.SharesClient(tt.b); got != tt.want || tt.b.SharesClient(tt.a) != got {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// A command that works for one account must not choose the default one where several are set.
func TestLoad_AsksForTheAccountWhereSeveralAreSet(t *testing.T) {
	t.Parallel()
	environ := []string{"KYCLINK_REDIS_URL=redis://127.0.0.1:6379", "KYCLINK_ACCOUNTS=/etc/kyclink/accounts"}
	if _, err := config.Load(environ, config.Needs{Redis: true}); err == nil || !strings.Contains(err.Error(), "KYCLINK_ACCOUNT is missing") {
		t.Errorf("got %v", err)
	}
	if c, err := config.Load(append(environ, "KYCLINK_ACCOUNT=shop"), config.Needs{Redis: true}); err != nil || c.Account != "shop" {
		t.Errorf("got %+v, %v", c, err)
	}
}
